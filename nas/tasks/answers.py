"""Holds what tasks that read one text and write another share: pairs from a table, and scores of answers.

Shapes: B batch, S tokens of the source, T tokens of the answer.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, ClassVar

import torch
from torch import nn

from nas.data.rows import Column
from nas.errors import DataError
from nas.models.seq2seq import Seq2Seq
from nas.settings.task_settings import TableTask as TableSettings
from nas.tasks import table
from nas.tasks.base import WHOLE, Floors, Scores, Split, Turn
from nas.tasks.coders import Subwords
from nas.tasks.token_task import IGNORED, Examples, TokenTask, on_device

START, END = "<start>", "<end>"
TOKENS_PER_ANSWER = 256
"""The tokens to evaluate for each answer that is written and scored: writing takes long."""
ANSWERS_AT_ONCE = 64
References = Sequence[Sequence[str]]
"""All right answers to each source."""


@dataclass(frozen=True)
class Pair:
    source: list[int]
    target: list[int]


class AnswerTask(TokenTask):
    """loss = −ln p(y_t | source, y_{<t}), where y is the answer and an end token.

    Of several answers the first is learned. Training leaves out pairs that do not fit the context, with the answer's
    end token. Evaluation cuts both to the context, and counts them. It writes answers greedily, no longer than the
    longest answer of training, and scores them against every answer that the split gives to the same source.
    """

    columns: ClassVar[tuple[Column, ...]]
    cuts_sources: ClassVar[bool] = False
    """True where training keeps the beginning of a source that is too long."""
    source: ClassVar[str]
    target: ClassVar[str]

    def __init__(self, settings: TableSettings) -> None:
        self.context = settings.context
        self.data = table.TableData(settings, self.columns, self.source, (self.source, self.target), (START, END))
        self.coder: Subwords = self.data.subwords
        self.start, self.end = (self.coder.symbols.index(symbol) for symbol in (START, END))
        self.pairs = {split: self._pairs(split) for split in self.data.splits}
        fitting = [pair for pair in self.pairs["train"] if self._fits(pair)]
        self.too_long = {
            split: sum(len(pair.source) > self.context or len(pair.target) >= self.context for pair in pairs)
            for split, pairs in self.pairs.items()
        }
        if not fitting:
            raise self._nothing_fits()
        self.pairs |= {"train": fitting}
        self.longest = max(len(pair.target) + 1 for pair in fitting)
        self.lengths = {
            split: torch.tensor([self._length(pair) for pair in pairs]) for split, pairs in self.pairs.items()
        }

    @property
    def typical(self) -> tuple[int, int]:
        """Returns the median lengths of the training split, with the answer's end token."""
        pairs = self.pairs["train"]
        sources, targets = [len(p.source) for p in pairs], [len(p.target) + 1 for p in pairs]
        return min(int(median(sources)), self.context), int(median(targets))

    @abstractmethod
    def judged(
        self, told: Sequence[str], references: References, sources: Sequence[str]
    ) -> tuple[dict[str, float], Scores]:
        """Returns metrics of the written answers against any of the references, and the scores that they average.

        Scores are empty where metrics are no means.
        """

    @abstractmethod
    def simple(self, sources: Sequence[str]) -> dict[str, list[str]]:
        """Returns what each floor would write, by name."""

    def describe(self) -> dict[str, Any]:
        return self.data.describe() | {"too_long": self.too_long}

    def floors(self, split: Split, max_tokens: int = WHOLE) -> Floors:
        sources, references = self.asked(split, max(1, max_tokens // TOKENS_PER_ANSWER))
        return {name: self.judged(told, references, sources)[0] for name, told in self.simple(sources).items()}

    def guesses(self, split: Split) -> dict[str, Scores]:
        sources, references = self.asked(split)
        judged = {name: self.judged(told, references, sources)[1] for name, told in self.simple(sources).items()}
        return {name: scores for name, scores in judged.items() if scores}

    def training(self, generator: torch.Generator, size: int) -> Examples:
        return self._examples([self.pairs["train"][i] for i in table.drawn(self.lengths["train"], generator, size)])

    def largest(self, size: int, device: str = "cpu") -> Examples:
        longest = table.longest(self.lengths["train"], size)
        return on_device(device, self._examples([self.pairs["train"][number] for number in longest]))

    def evaluation(self, split: Split, max_tokens: int, at_once: int) -> Iterator[Examples]:
        for numbers in table.evenly(self.lengths[split], max_tokens, at_once):
            yield self._examples([self.pairs[split][number] for number in numbers])

    def written(
        self, model: nn.Module, split: Split, max_tokens: int, device: str, turn: Turn
    ) -> tuple[dict[str, float], Scores]:
        assert isinstance(model, Seq2Seq)
        sources, references = self.asked(split, max(1, max_tokens // TOKENS_PER_ANSWER))
        coded = [tokens[: self.context] for tokens in self.coder.encode_all(sources)]
        told = [""] * len(sources)
        for numbers in table.evenly(torch.tensor([len(tokens) for tokens in coded]), WHOLE, ANSWERS_AT_ONCE):
            source_BS, padding_BS = (part.to(device) for part in table.padded([coded[number] for number in numbers]))
            with turn(), torch.inference_mode():
                rows = model.generate(source_BS, self.longest, self.start, self.end, padding_BS=padding_BS).tolist()
            for number, row in zip(numbers, rows, strict=True):
                told[number] = self.coder.decode(row[: row.index(self.end)] if self.end in row else row)
        return self.judged(told, references, sources)

    def asked(self, split: Split, most: int | None = None) -> tuple[list[str], list[list[str]]]:
        """Returns distinct sources of the split and all answers to each.

        They are evenly spaced where there are more than `most`.
        """
        answers: dict[str, list[str]] = {}
        for row in self.data.of(split):
            told = row[self.target]
            answers.setdefault(row[self.source], []).extend([told] if isinstance(told, str) else told)
        sources, count = list(answers), min(len(answers), most or len(answers))
        taken = [sources[number * len(sources) // count] for number in range(count)]
        return taken, [answers[source] for source in taken]

    def _pairs(self, split: Split) -> list[Pair]:
        found = self.data.of(split)
        targets = [row[self.target] if isinstance(row[self.target], str) else row[self.target][0] for row in found]
        coded = zip(
            self.coder.encode_all([row[self.source] for row in found]), self.coder.encode_all(targets), strict=True
        )
        return [Pair(source, target) for source, target in coded]

    def _fits(self, pair: Pair) -> bool:
        return (self.cuts_sources or len(pair.source) <= self.context) and len(pair.target) < self.context

    def _nothing_fits(self) -> DataError:
        needs = (
            max(0 if self.cuts_sources else len(pair.source), len(pair.target) + 1) for pair in self.pairs["train"]
        )
        return DataError(
            f"no pair of the training split fits a context of {self.context} tokens",
            code="context-too-short",
            where="task.context",
            help=f"raise task.context: the shortest pair needs {min(needs)}",
        )

    def _length(self, pair: Pair) -> int:
        return min(len(pair.source), self.context) + min(len(pair.target) + 1, self.context)

    def _examples(self, pairs: Sequence[Pair]) -> Examples:
        source_BS, padding_BS = table.padded([pair.source[: self.context] for pair in pairs])
        ended = [[*pair.target, self.end][: self.context] for pair in pairs]
        written_BT, _ = table.padded([[self.start, *answer[:-1]] for answer in ended])
        targets_BT, _ = table.padded(ended, IGNORED)
        return (source_BS, written_BT, padding_BS), targets_BT
