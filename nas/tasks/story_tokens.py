"""Keeps the tokens of stories with the answers that stand in them, for questions about the stories.

Shapes: N questions of a split.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from nas.data import ragged, rows, token_cache
from nas.data.rows import Table
from nas.data.token_cache import Integers, TokenWriter
from nas.tasks.base import Split
from nas.tasks.mentions import normalised, place_of
from nas.tasks.table import ORDER, Prepared, TableData

PLACES = np.dtype("<u4")
AT_ONCE = 256


class StoryTokens:
    """Tells, for each question of a split, what of its story and of itself fits the context.

    `questions`: their tokens. `answers` (N, 2): the first and last token of the story that the answer covers, or -1.
    `before`: what stands before the story's token 0, less the tokens that are cut off: `cut`. `whole`: the answer is
    left. `within`: it is left, and its tokens hold more than it. `shortened`: question or story is cut. `lengths`: all
    tokens that are left; `places`: those of the story. `spans`: the tokens of the answer.
    """

    def __init__(self, data: TableData, split: Split, context: int) -> None:
        self.questions, self._stories = data.tokens("question", split), data.tokens("story", split)
        self._starts = self._stories.beside(data.entry.arrays["story_starts"])
        self._stops = self._stories.beside(data.entry.arrays["story_stops"])
        self.answers = np.stack([data.kept(name, split) for name in ("first", "last")], axis=1)
        asked, story = self.questions.lengths, self._stories.lengths
        asking = asked.clip(max=context // 2)
        self.cut = (asking + 1 + story - context).clip(min=0)
        self.before = asking + 1 - self.cut
        self.whole = (self.answers[:, 0] >= 0) & (self.answers[:, 0] >= self.cut)
        self.within = self.whole & (data.kept("within", split) == 1)
        self.shortened = (self.cut > 0) | (asking < asked)
        self.places = story - self.cut
        self.lengths = asking + 1 + self.places
        self.spans = self.answers[:, 1] - self.answers[:, 0] + 1

    def story(self, number: int) -> tuple[list[int], list[tuple[int, int]]]:
        """Returns the tokens of a story, and [start, end) of each in its characters."""
        tokens: list[int] = self._stories[number].tolist()
        return tokens, list(zip(self._starts[number].tolist(), self._stops[number].tolist(), strict=True))


def write_stories(prepared: Prepared, writer: TokenWriter) -> dict[str, Any]:
    """Writes the tokens of the stories, their places, and where the answers stand. Raises DataError."""
    coder, starts = prepared.subwords, _answer_starts(prepared.table)
    kind, order = token_cache.width(len(coder.symbols)), np.concatenate([prepared.numbers[split] for split in ORDER])

    def tokens() -> Iterator[list[int]]:
        for some in ragged.batches(zip(prepared.rows(), starts[order].tolist(), strict=True), AT_ONCE):
            told = list[tuple[int, int, bool]]()
            for row, start in some:
                found, places = coder.encode_with_places(row["context"])
                first_L, last_L = np.array(places, dtype=PLACES).reshape(-1, 2).T
                writer.append("story_starts", first_L)
                writer.append("story_stops", last_L)
                told.append(_covered(row, start, first_L, last_L))
                yield found
            for name, values in zip(("first", "last", "within"), zip(*told, strict=True), strict=True):
                writer.append(name, np.asarray(values, dtype="<i8"))

    ragged.write(writer, "story_tokens", tokens(), kind)
    return {}


def _covered(row: Any, start: int, first_L: Integers, last_L: Integers) -> tuple[int, int, bool]:
    """Returns the first and last token that the answer covers, and whether they hold more than it."""
    answer = row["answer"][0]
    covered = ((first_L < start + len(answer)) & (last_L > start)).nonzero()[0]
    if not len(covered):
        return -1, -1, False
    first, last = int(covered[0]), int(covered[-1])
    text = row["context"][int(first_L[first]) : int(last_L[last])]
    return first, last, normalised(text) != normalised(answer)


def _answer_starts(table: Table) -> Integers:
    """Finds where each answer stands: where its row says, or else at its first mention. Raises DataError."""
    starts, wrong = np.zeros(len(table.rows), dtype=np.int64), dict[int, str]()
    for number, row in enumerate(table.rows):
        answer = row["answer"][0]
        start = row["answer_start"] if "answer_start" in row else place_of(answer, row["context"])
        if start < 0:
            wrong[number] = f"the answer '{answer}' is not in the context"
        elif row["context"][start : start + len(answer)] != answer:
            wrong[number] = f"the answer '{answer}' does not stand at answer_start = {start} of the context"
        else:
            starts[number] = start
    rows.refuse(table, wrong)
    return starts
