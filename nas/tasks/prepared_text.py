"""Prepares a text for training: cuts it into splits and tokens, in a stream, once for all processes of a machine.

The tokens lie in the cache (nas.data.token_cache), so a text of any size takes little memory. What is prepared is the
same as if the whole text were encoded at once, split by split.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nas.data import fetch, text_census, text_source, token_cache
from nas.data.splits import Splits, check_length, spans_of
from nas.data.text_census import Census, Progress, silent
from nas.data.text_source import TextSource
from nas.data.token_cache import Integers, TokenWriter
from nas.settings.task_settings import TextTask as TextSettings
from nas.tasks.coders import Characters, Coder, Subwords, restored, tokenizer_file
from nas.tasks.text_encoders import encoder_of, pieces

VERSION = 1
"""Changes when an equal text gives other tokens."""
DOCUMENT_END = "<|endoftext|>"
"""The symbol behind every document, where a corpus has several."""
LEARNED = 2**25
"""Characters of the train split that byte pairs are learned from: of a longer one, evenly spaced parts."""


@dataclass(frozen=True)
class PreparedText:
    """Holds a corpus as tokens.

    `spans`: split → [start, end) in characters. `splits`: the same in tokens, document ends among them. `unseen`: split
    → its tokens that the train split never shows. `plain`: [first, last) of the tokens that stand for text or end a
    document. `learned`: the characters that byte pairs were learned from, if they were. `tokenizer`: the SHA-256 of the
    file that the settings name, if they do.
    """

    source: TextSource
    census: Census
    tokens: Integers
    coder: Coder
    spans: Splits
    splits: Splits
    unseen: Mapping[str, int]
    plain: tuple[int, int]
    learned: int | None
    tokenizer: str
    entry: token_cache.Entry


def prepare(settings: TextSettings, own_symbols: Sequence[str] = (), progress: Progress = silent) -> PreparedText:
    """Finds the corpus and its tokens, and makes them where they are missing. Raises DataError."""
    source = text_source.find(settings.corpus, settings.column)
    census = text_census.take(source, progress)
    spans = spans_of(census.lengths, settings.split, settings.context)
    tokeniser = _Tokeniser(settings, source, census, spans, tuple(own_symbols))

    def fill(writer: TokenWriter) -> dict[str, Any]:
        return tokeniser.write(writer, progress)

    entry = token_cache.obtain(tokeniser.key, fill, progress)
    about = entry.about
    try:
        splits = {name: (about["edges"][str(start)], about["edges"][str(end)]) for name, (start, end) in spans.items()}
        coder, tokens, (low, high) = restored(about["coder"]), entry.arrays["tokens"], about["plain"]
        unseen, learned = about["unseen"], about["learned"]
    except Exception as error:  # a damaged file fails in ways that nobody can list
        raise token_cache.damaged(entry, error) from error
    check_length(splits, settings.context, "characters" if isinstance(coder, Characters) else "subwords")
    name = tokeniser.tokenizer
    return PreparedText(source, census, tokens, coder, spans, splits, unseen, (low, high), learned, name, entry)


class _Tokeniser:
    """Turns a source into tokens, and knows by what they are kept."""

    def __init__(
        self, settings: TextSettings, source: TextSource, census: Census, spans: Splits, own: tuple[str, ...]
    ) -> None:
        self.settings, self.source, self.census, self.spans = settings, source, census, spans
        self.ends = (DOCUMENT_END,) if source.documents else ()
        self.own = own
        self.edges = sorted({edge for span in spans.values() for edge in span})

    @cached_property
    def tokenizer(self) -> str:
        """Returns the SHA-256 of the tokenizer's file; empty where the settings name none."""
        named = self.settings.tokenizer
        return hashlib.sha256(tokenizer_file(fetch.path_of(named))).hexdigest() if named else ""

    @property
    def key(self) -> dict[str, Any]:
        how: dict[str, Any] = {"characters": True}
        if self.tokenizer:
            how = {"tokenizer": self.tokenizer}
        elif self.settings.subwords:
            how = {"subwords": self.settings.subwords, "learned": LEARNED}
        text = {"sha256": self.census.sha256, "column": self.settings.column if self.source.documents else ""}
        return {"version": VERSION, "own": [*self.own, *self.ends], "spans": self.spans, **text, **how}

    def write(self, writer: TokenWriter, progress: Progress) -> dict[str, Any]:
        """Writes all tokens, and describes them."""
        coder, learned = self._coder(progress)
        vocabulary = len(coder.symbols)
        end = coder.symbols.index(DOCUMENT_END) if self.ends else None
        encoder = encoder_of(coder, end, learned is not None)
        counts = {start: np.zeros(vocabulary, dtype=np.int64) for start in self.edges}
        places, written, current = dict[int, int](), 0, self.edges[0]

        def put(tokens: Integers) -> None:
            nonlocal written
            writer.append("tokens", tokens)
            counts[current] += np.bincount(tokens, minlength=vocabulary)
            written += len(tokens)

        for at, text, last in self._cut(progress):
            if at in counts and at not in places:
                put(encoder.rest())
                places[at], current = written, at
            put(encoder.take(text, last))
        put(encoder.rest())
        places[self.edges[-1]] = written
        own = len(self.own) if learned is not None else 0
        plain = (own, vocabulary if learned is not None else vocabulary - len(self.own))
        return {
            "name": self.source.name,
            "sha256": self.census.sha256,
            "coder": coder.saved(),
            "edges": {str(edge): place for edge, place in places.items()},
            "unseen": self._unseen(counts),
            "plain": plain,
            "learned": learned,
        }

    def _coder(self, progress: Progress) -> tuple[Coder, int | None]:
        """Returns the coder, and the characters that it was learned from, if it was."""
        if self.settings.tokenizer:
            return Subwords.read(fetch.path_of(self.settings.tokenizer), (*self.ends, *self.own)), None
        if not self.settings.subwords:
            return Characters([*self.census.alphabet, *self.ends, *self.own]), None
        start, end = self.spans["train"]
        every, learned = max(1, -(-(end - start) // LEARNED)), 0

        def sample() -> Iterator[str]:
            nonlocal learned
            for number, text in enumerate(pieces(self._train(progress))):
                if number % every == 0:
                    learned += len(text)
                    yield text

        return Subwords.learned(sample(), self.settings.subwords, (*self.own, *self.ends)), learned

    def _train(self, progress: Progress) -> Iterator[tuple[str, bool]]:
        start, end = self.spans["train"]
        for at, text, last in self._cut(progress, "learning subwords"):
            if at >= end:
                return
            if at >= start:
                yield text, last

    def _cut(self, progress: Progress, stage: str = "encoding") -> Iterator[tuple[int, str, bool]]:
        """Yields (first character, text, whether its document ends), with no text across the edge of a split."""
        at, ahead = 0, self.edges[1:]
        for _, piece in self.source.pieces():
            text = piece.text
            while ahead and at + len(text) > ahead[0]:
                size = ahead.pop(0) - at
                yield at, text[:size], False
                at, text = at + size, text[size:]
            yield at, text, piece.last
            at += len(text)
            progress(stage, at, sum(self.census.lengths.values()))

    def _unseen(self, counts: Mapping[int, Integers]) -> dict[str, int]:
        def of(split: str) -> Integers:
            start, end = self.spans[split]
            return sum((counts[edge] for edge in self.edges if start <= edge < end), np.zeros_like(counts[0]))

        return {split: int(of(split)[of("train") == 0].sum()) for split in ("val", "test")}
