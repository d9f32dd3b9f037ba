"""Holds what tasks that read one text and write another share: pairs from a table, and scores of answers.

Shapes: B batch, S tokens of the source, T tokens of the answer.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from nas.data.row_store import Chosen
from nas.data.rows import Column
from nas.data.text_census import Progress, silent
from nas.data.token_cache import Integers
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

    def __init__(self, settings: TableSettings, progress: Progress = silent) -> None:
        self.context, texts = settings.context, (self.source, self.target)
        reading = table.Reading("answers", self.columns, self.source, texts, texts, (START, END))
        self.data = table.TableData(settings, reading, progress)
        self.coder: Subwords = self.data.subwords
        self.start, self.end = (self.coder.symbols.index(symbol) for symbol in (START, END))
        sizes = {split: [self.data.tokens(column, split).lengths for column in texts] for split in table.ORDER}
        self.too_long = {
            split: int(((source > self.context) | (target >= self.context)).sum())
            for split, (source, target) in sizes.items()
        }
        fits = self._fitting(*sizes["train"])
        chosen = {split: fits if split == "train" else np.arange(len(sizes[split][0])) for split in table.ORDER}
        self.pairs = {split: self._pairs(split, chosen[split]) for split in table.ORDER}
        self._sizes = {split: [size[chosen[split]] for size in sizes[split]] for split in table.ORDER}
        self.longest = int(self._sizes["train"][1].max()) + 1
        self.lengths = {
            split: torch.from_numpy(source.clip(max=self.context) + (target + 1).clip(max=self.context))
            for split, (source, target) in self._sizes.items()
        }

    @property
    def typical(self) -> tuple[int, int]:
        """Returns the median lengths of the training split, with the answer's end token."""
        sources, targets = self._sizes["train"]
        return min(int(np.median(sources)), self.context), int(np.median(targets + 1))

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

    def _pairs(self, split: Split, numbers: Integers) -> Sequence[Pair]:
        sources, targets = (self.data.tokens(column, split) for column in (self.source, self.target))
        return Chosen(lambda number: Pair(sources[number].tolist(), targets[number].tolist()), numbers)

    def _fitting(self, source_N: Integers, target_N: Integers) -> Integers:
        """Returns the numbers of the pairs that fit the context. Raises DataError where there are none."""
        needs_N = np.maximum(target_N + 1, 0 if self.cuts_sources else source_N)
        fits = (needs_N <= self.context).nonzero()[0]
        if not len(fits):
            raise DataError(
                f"no pair of the training split fits a context of {self.context} tokens",
                code="context-too-short",
                where="task.context",
                help=f"raise task.context: the shortest pair needs {needs_N.min()}",
            )
        return fits

    def _examples(self, pairs: Sequence[Pair]) -> Examples:
        source_BS, padding_BS = table.padded([pair.source[: self.context] for pair in pairs])
        ended = [[*pair.target, self.end][: self.context] for pair in pairs]
        written_BT, _ = table.padded([[self.start, *answer[:-1]] for answer in ended])
        targets_BT, _ = table.padded(ended, IGNORED)
        return (source_BS, written_BT, padding_BS), targets_BT
