"""Answers questions with a span of a story.

Shapes: B batch, T tokens, N questions.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, compress
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.data.row_store import Chosen
from nas.data.rows import Column
from nas.data.text_census import Progress, silent
from nas.errors import DataError
from nas.models import Head
from nas.settings.task_settings import TableTask as TableSettings
from nas.tasks import table
from nas.tasks.base import WHOLE, Floors, Inputs, Scores, Split, Turn
from nas.tasks.coders import Subwords
from nas.tasks.evaluation import Evaluated
from nas.tasks.mentions import Candidates, f1, normalised
from nas.tasks.story_tokens import StoryTokens, write_stories
from nas.tasks.token_task import EVALUATION_TOKENS_AT_ONCE, IGNORED

SEPARATOR = "<sep>"
LONGEST_ANSWER = 16
"""The most subwords of an answer, unless answers of the training split have more."""
Examples = tuple[Inputs, Tensor]
"""Tokens (B, T) with their padding (B, T), and the first and last place of each answer (B, 2)."""


@dataclass(frozen=True)
class Question:
    """Holds a question with its story and its answers, as tokens and as text.

    `tokens` are the question, the separator and the story. `answer` is its first and last place, or None if it was cut
    off. `places` gives [start, end) in the story's characters for each of its remaining tokens. `cut` tells whether
    part of the story or of the question was cut off.
    """

    tokens: list[int]
    answer: tuple[int, int] | None
    story: str
    places: list[tuple[int, int]]
    answers: list[str]
    group: str
    cut: bool


class QuestionAnswering(Evaluated):
    """loss = −½ (ln p(first place) + ln p(last place)) over the places of the story, as in BERT (arXiv:1810.04805).

    A question longer than half the context loses its end. A story that does not fit into the rest loses its beginning.
    Questions whose answer stood there are not trained on, and count as wrong in evaluation; the loss leaves them out.
    Beside the metrics of all questions stand `exact_match:GROUP` and `f1:GROUP` of each group, where rows have one.
    """

    columns = (
        Column("context", "text"),
        Column("question", "text"),
        Column("answer", "texts"),
        Column("answer_start", "count", required=False),
        Column("task", "label", required=False),
    )
    head = Head("span")

    def __init__(self, settings: TableSettings, progress: Progress = silent) -> None:
        self.context = settings.context
        learned = ("context", "question", "answer")
        reading = table.Reading(
            "answers in stories", self.columns, "context", learned, ("question",), (SEPARATOR,), write_stories
        )
        self.data = table.TableData(settings, reading, progress)
        self.coder: Subwords = self.data.subwords
        self.separator = self.coder.symbols.index(SEPARATOR)
        self.stories = {split: StoryTokens(self.data, split, self.context) for split in table.ORDER}
        self.questions: dict[Split, Sequence[Question]] = {
            split: Chosen(partial(self._question, split), range(len(found.cut)))
            for split, found in self.stories.items()
        }
        self.too_long = {split: int(found.shortened.sum()) for split, found in self.stories.items()}
        self.cut_off = {split: int((~found.whole).sum()) for split, found in self.stories.items()}
        self.within = {split: int(found.within.sum()) for split, found in self.stories.items()}
        self._check_answers()
        trained = self.stories["train"].whole.nonzero()[0]
        self.trained = Chosen(partial(self._question, "train"), trained)
        self.lengths_of = {split: torch.from_numpy(found.lengths) for split, found in self.stories.items()}
        self.lengths = self.lengths_of["train"][trained]
        self._places = self.stories["train"].places[trained]
        self.longest = max(LONGEST_ANSWER, int(self.stories["train"].spans[trained].max()))

    @property
    def vocabulary(self) -> int:
        return len(self.coder.symbols)

    @property
    def guessing(self) -> float:
        """Returns the loss of taking every place of the story as equally likely."""
        return fmean(map(math.log, self._places.tolist()))

    @property
    def most_loss(self) -> float:
        return math.inf

    @property
    def typical(self) -> tuple[int, int]:
        """Returns the median length of the training split."""
        return int(self.lengths.median()), 0

    def describe(self) -> dict[str, Any]:
        return self.data.describe() | {
            "too_long": self.too_long,
            "answers_cut_off": self.cut_off,
            "answers_within_subwords": self.within,
        }

    def floors(self, split: Split, max_tokens: int = WHOLE) -> Floors:
        numbers = sorted(chain.from_iterable(self._evaluated(split, max_tokens)))
        asked = [self.questions[split][number] for number in numbers]
        return {
            name: _metrics(asked, [told[number] for number in numbers]) for name, told in self._guessed(split).items()
        }

    def guesses(self, split: Split) -> dict[str, Scores]:
        return {name: _scores(self.questions[split], told) for name, told in self._guessed(split).items()}

    def batch(self, generator: torch.Generator, size: int, device: str = "cpu") -> Examples:
        taken = [self.trained[number] for number in table.drawn(self.lengths, generator, size)]
        return self._examples(taken, device)

    def largest(self, size: int, device: str = "cpu") -> Examples:
        return self._examples([self.trained[number] for number in table.longest(self.lengths, size)], device)

    def shown(self, length: int) -> Inputs:
        (tokens_BT, padding_BT), _ = self._examples(self.questions["val"][:1], "cpu")
        return tokens_BT[:, :length], padding_BT[:, :length]

    def loss(self, model: nn.Module, inputs: Inputs, targets: Tensor) -> Tensor:
        return F.cross_entropy(self._logits(model, inputs).transpose(1, 2), targets, ignore_index=IGNORED)

    def judge(
        self, model: nn.Module, split: Split, max_tokens: int, device: str, turn: Turn
    ) -> tuple[dict[str, float], Scores]:
        """Computes loss and accuracy of the places, and exact match and F1 of the answers, as SQuAD normalises them."""
        told = dict[int, str | None]()
        nats, right, count = 0.0, 0, 0
        for numbers in self._evaluated(split, max_tokens):
            batch = [self.questions[split][number] for number in numbers]
            with turn(), torch.inference_mode():
                inputs, targets_B2 = self._examples(batch, device)
                logits_B2T = self._logits(model, inputs)
                nats += F.cross_entropy(
                    logits_B2T.transpose(1, 2), targets_B2, ignore_index=IGNORED, reduction="sum"
                ).item()
                right += int((logits_B2T.argmax(dim=2) == targets_B2).sum())
                count += int((targets_B2 != IGNORED).sum())
                spans = best_spans(logits_B2T, self.longest).tolist()
            for number, question, (first, last) in zip(numbers, batch, spans, strict=True):
                told[number] = self._text(question, first, last) if question.answer else None
        asked, texts = [self.questions[split][number] for number in sorted(told)], [told[n] for n in sorted(told)]
        if not count:
            raise DataError(
                f"the {len(asked)} questions of the {split} split that are evaluated have lost all answers",
                code="context-too-short",
                where="task.context",
                help="raise task.context, or train.evaluation_tokens",
            )
        places = {"loss": nats / count, "accuracy": right / (2 * len(asked))}
        return places | _metrics(asked, texts), _scores(asked, texts)

    def _evaluated(self, split: Split, max_tokens: int) -> Iterator[list[int]]:
        """Yields the numbers of the questions, batch by batch."""
        yield from table.evenly(self.lengths_of[split], max_tokens, max(1, EVALUATION_TOKENS_AT_ONCE // self.context))

    def _guessed(self, split: Split) -> dict[str, list[str]]:
        """Picks, among the training answers of the question's group, the one that the story mentions last."""
        answers = defaultdict[str, set[str]](set)
        for question in self.questions["train"]:
            answers[question.group].update(question.answers)
        groups, empty = {group: Candidates(found) for group, found in answers.items()}, Candidates(())
        return {"last candidate": [groups.get(q.group, empty).last_in(q.story) for q in self.questions[split]]}

    def _logits(self, model: nn.Module, inputs: Inputs) -> Tensor:
        """Returns (B, 2, T), −∞ outside the story."""
        tokens_BT, padding_BT = inputs
        behind_BT = (tokens_BT == self.separator).cumsum(dim=1)
        story_BT = (behind_BT.roll(1, dims=1) > 0) & ~padding_BT
        story_BT[:, 0] = False
        logits_B2T: Tensor = model(tokens_BT, padding_BT)
        return logits_B2T.masked_fill(~story_BT[:, None], -math.inf)

    def _examples(self, questions: Sequence[Question], device: str) -> Examples:
        tokens_BT, padding_BT = table.padded([question.tokens for question in questions])
        answers_B2 = torch.tensor([question.answer or (IGNORED, IGNORED) for question in questions])
        return (tokens_BT.to(device), padding_BT.to(device)), answers_B2.to(device)

    def _text(self, question: Question, first: int, last: int) -> str:
        """Returns the text at these places of the tokens."""
        before = len(question.tokens) - len(question.places)
        start, end = question.places[first - before][0], question.places[last - before][1]
        return question.story[start:end]

    def _question(self, split: Split, number: int) -> Question:
        found, row = self.stories[split], self.data.of(split)[number]
        asking = found.questions[number].tolist()
        story, places = found.story(number)
        cut, before = int(found.cut[number]), int(found.before[number])
        first, last = found.answers[number].tolist()
        return Question(
            [*asking[: self.context // 2], self.separator, *story[cut:]],
            (before + first, before + last) if found.whole[number] else None,
            row["context"],
            places[cut:],
            row["answer"],
            row.get("task", ""),
            bool(found.shortened[number]),
        )

    def _check_answers(self) -> None:
        """Raises DataError for a split whose answers are all cut off."""
        for split, found in self.stories.items():
            if not found.whole.any():
                raise DataError(
                    f"the stories of the {split} split have lost all answers at a context of {self.context} tokens",
                    code="context-too-short",
                    where="task.context",
                    help="raise task.context: a story that is too long loses its beginning",
                )


def best_spans(logits_B2T: Tensor, longest: int) -> Tensor:
    """Returns (B, 2): the first and last place with the largest sum of logits, of spans of at most `longest` places."""
    first_BT1, last_B1T = logits_B2T[:, 0, :, None], logits_B2T[:, 1, None, :]
    T = logits_B2T.size(2)
    allowed_TT = torch.ones(T, T, dtype=torch.bool, device=logits_B2T.device).triu().tril(longest - 1)
    best_B = (first_BT1 + last_B1T).masked_fill(~allowed_TT, -math.inf).flatten(1).argmax(dim=1)
    return torch.stack((best_B // T, best_B % T), dim=1)


def _scores(asked: Sequence[Question], told: Sequence[str | None]) -> Scores:
    """Returns the best score over the answers of each question, 0 where the answer was cut off."""
    exact, overlap = list[float](), list[float]()
    for question, text in zip(asked, told, strict=True):
        if text is None:
            exact.append(0.0)
            overlap.append(0.0)
            continue
        exact.append(float(any(normalised(text) == normalised(answer) for answer in question.answers)))
        overlap.append(max(f1(text, answer) for answer in question.answers))
    return {"exact_match": exact, "f1": overlap}


def _metrics(asked: Sequence[Question], told: Sequence[str | None]) -> dict[str, float]:
    """Returns the means over all questions, and over each group."""
    scores = _scores(asked, told)
    groups = {question.group for question in asked} - {""}
    found = {name: fmean(values) for name, values in scores.items()}
    for group in sorted(groups, key=lambda group: (len(group), group)):
        taken = [question.group == group for question in asked]
        found |= {f"{name}:{group}": fmean(compress(values, taken)) for name, values in scores.items()}
    return found
