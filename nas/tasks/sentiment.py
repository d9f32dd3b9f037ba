"""Classifies texts, by sentiment or by any other label."""

from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nas.data import rows
from nas.data.rows import Column
from nas.errors import DataError
from nas.settings.task_settings import TableTask as TableSettings
from nas.tasks import table
from nas.tasks.base import Split
from nas.tasks.class_task import ClassTask, Examples

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

TOKEN = r"\w\w+|\S"
"""Matches a word of two letters or more, or any other sign by itself."""


class Sentiment(ClassTask):
    """loss = −ln p(label | text), over the labels of the training split.

    A text is cut off at `context` subwords.
    """

    columns = (Column("text", "text"), Column("label", "label"))

    def __init__(self, settings: TableSettings) -> None:
        self.data = table.TableData(settings, self.columns, key="text", texts=("text",))
        self.coder, self.context = self.data.subwords, settings.context
        self.classes = sorted({row["label"] for row in self.data.of("train")})
        self._check_labels()
        numbers = {label: number for number, label in enumerate(self.classes)}
        self.texts, self.labels, self.lengths_of = {}, {}, {}
        self.too_long = dict.fromkeys(self.data.splits, 0)
        for split in self.data.splits:
            found = self.data.of(split)
            whole = self.data.subwords.encode_all([row["text"] for row in found])
            self.too_long[split] = sum(len(text) > self.context for text in whole)
            self.texts[split] = [text[: self.context] for text in whole]
            self.labels[split] = torch.tensor([numbers[row["label"]] for row in found])
            self.lengths_of[split] = torch.tensor([len(text) for text in self.texts[split]])

    @property
    def typical(self) -> tuple[int, int]:
        """Returns the median length of the training split."""
        return int(self.lengths("train").median()), 0

    def describe(self) -> dict[str, Any]:
        return self.data.describe() | {"classes": self.classes, "too_long": self.too_long}

    def lengths(self, split: Split) -> Tensor:
        return self.lengths_of[split]

    def true(self, split: Split) -> list[int]:
        found: list[int] = self.labels[split].tolist()
        return found

    def guessed(self, split: Split) -> dict[str, list[int]]:
        """Returns the commonest class of the training split, and the guesses of logistic regression on TF-IDF of words.

        Validation accuracy on the tweets with C = 1 / 10 / 100: .802 / .861 / .856; with pairs of words .763 / .837 /
        .861.
        """
        held = [row["text"] for row in self.data.of(split)]
        commonest = Counter(self.true("train")).most_common(1)[0][0]
        told = self._linear.predict(held).tolist()
        return {"majority": [commonest] * len(held), "TF-IDF, logistic regression": told}

    @cached_property
    def _linear(self) -> "Pipeline":
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        counted = TfidfVectorizer(sublinear_tf=True, token_pattern=TOKEN)
        made = make_pipeline(counted, LogisticRegression(C=10, max_iter=1000))
        return made.fit([row["text"] for row in self.data.of("train")], self.true("train"))

    def training(self, generator: torch.Generator, size: int) -> Examples:
        return self.held("train", table.drawn(self.lengths("train"), generator, size))

    def held(self, split: Split, numbers: list[int]) -> Examples:
        tokens_BT, padding_BT = table.padded([self.texts[split][number] for number in numbers])
        return (tokens_BT, padding_BT), self.labels[split][numbers]

    def _check_labels(self) -> None:
        """Raises DataError for a single class, and for a class that no training row has."""
        known = set(self.classes)
        if len(known) < 2:
            raise DataError(
                f"a single class cannot be learned: every training row has the label '{self.classes[0]}'",
                code="corpus-too-short",
                where=self.data.table.name,
                help='add rows with other labels; or name another column: task.columns = { label = "..." }',
            )
        wrong = {
            number: f"label is '{self.data.table.rows[number]['label']}', which no training row has"
            for split in ("val", "test")
            for number in self.data.splits[split]
            if self.data.table.rows[number]["label"] not in known
        }
        rows.refuse(self.data.table, wrong)
