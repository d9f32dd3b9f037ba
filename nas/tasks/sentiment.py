"""Classifies texts, by sentiment or by any other label."""

from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nas.data import ragged, rows
from nas.data.rows import Column
from nas.data.text_census import Progress, silent
from nas.data.token_cache import TokenWriter
from nas.errors import DataError
from nas.settings.task_settings import TableTask as TableSettings
from nas.tasks import table
from nas.tasks.base import Split
from nas.tasks.class_task import ClassTask, Examples
from nas.tasks.coders import AT_ONCE

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

MOST_FITTED = 100_000
"""Rows that the linear floor learns from, evenly spaced where there are more."""
TOKEN = r"\w\w+|\S"
"""Matches a word of two letters or more, or any other sign by itself."""


class Sentiment(ClassTask):
    """loss = −ln p(label | text), over the labels of the training split.

    A text is cut off at `context` subwords.
    """

    columns = (Column("text", "text"), Column("label", "label"))

    def __init__(self, settings: TableSettings, progress: Progress = silent) -> None:
        reading = table.Reading("sentiment", self.columns, "text", ("text",), ("text",), more=_labels)
        self.data = table.TableData(settings, reading, progress)
        self.coder, self.context, self.classes = self.data.subwords, settings.context, list(self.data.more["classes"])
        self.texts = {split: self.data.tokens("text", split) for split in table.ORDER}
        whole = {split: torch.from_numpy(self.texts[split].lengths) for split in table.ORDER}
        self.too_long = {split: int((lengths > self.context).sum()) for split, lengths in whole.items()}
        self.lengths_of = {split: lengths.clamp(max=self.context) for split, lengths in whole.items()}
        self.labels = {split: torch.from_numpy(np.array(self.data.kept("labels", split))) for split in table.ORDER}

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
        .861. Of more than MOST_FITTED training rows, evenly spaced ones are learned from.
        """
        held = (row["text"] for row in self.data.of(split))
        commonest = Counter(self.true("train")).most_common(1)[0][0]
        told = [guess for some in ragged.batches(held, AT_ONCE) for guess in self._linear.predict(some).tolist()]
        return {"majority": [commonest] * len(told), "TF-IDF, logistic regression": told}

    @cached_property
    def _linear(self) -> "Pipeline":
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        counted = TfidfVectorizer(sublinear_tf=True, token_pattern=TOKEN)
        made = make_pipeline(counted, LogisticRegression(C=10, max_iter=1000))
        count = len(self.data.splits["train"])
        taken = [number * count // min(count, MOST_FITTED) for number in range(min(count, MOST_FITTED))]
        texts, true = self.data.of("train"), self.true("train")
        return made.fit([texts[number]["text"] for number in taken], [true[number] for number in taken])

    def training(self, generator: torch.Generator, size: int) -> Examples:
        return self.held("train", table.drawn(self.lengths("train"), generator, size))

    def held(self, split: Split, numbers: list[int]) -> Examples:
        tokens_BT, padding_BT = table.padded([self.texts[split][number][: self.context] for number in numbers])
        return (tokens_BT, padding_BT), self.labels[split][numbers]


def _labels(prepared: table.Prepared, writer: TokenWriter) -> dict[str, Any]:
    """Writes the number of each row's label. Raises DataError for a single class, and for a class that no training row
    has."""
    found, numbers = prepared.table, prepared.numbers
    classes = sorted({found.rows[number]["label"] for number in numbers["train"]})
    if len(classes) < 2:
        raise DataError(
            f"a single class cannot be learned: every training row has the label '{classes[0]}'",
            code="corpus-too-short",
            where=found.name,
            help='add rows with other labels; or name another column: task.columns = { label = "..." }',
        )
    place = {label: number for number, label in enumerate(classes)}
    wrong = {
        number: f"label is '{found.rows[number]['label']}', which no training row has"
        for split in ("val", "test")
        for number in numbers[split]
        if found.rows[number]["label"] not in place
    }
    rows.refuse(found, wrong)
    for some in ragged.batches((place[row["label"]] for row in prepared.rows()), ragged.WRITTEN_AT_ONCE):
        writer.append("labels", np.asarray(some, dtype="<i8"))
    return {"classes": classes}
