"""Prepares a text for training: cuts it into splits and tokens, in a stream, once for all processes of a machine.

The tokens lie in the cache (nas.data.token_cache), so a text of any size takes little memory. What is prepared is the
same as if the whole text were encoded at once, split by split.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from nas.data import fetch, text_census, text_source, token_cache
from nas.data.splits import Splits, check_length, spans_of
from nas.data.text_census import Census, Progress, points_of, silent
from nas.data.text_source import TextSource
from nas.data.token_cache import Integers, TokenWriter
from nas.errors import DataError
from nas.settings.task_settings import TextTask as TextSettings
from nas.tasks.coders import Characters, Coder, Subwords, restored, tokenizer_file

VERSION = 1
"""Changes when an equal text gives other tokens."""
DOCUMENT_END = "<|endoftext|>"
"""The symbol behind every document, where a corpus has several."""
LEARNED = 2**25
"""Characters of the train split that byte pairs are learned from: of a longer one, evenly spaced parts."""
PIECE, PIECES_AT_ONCE = 2**16, 64
"""Characters that are encoded as one text, and how many such texts are encoded side by side."""
LONGEST_WORD = 256
"""Subwords never cross a place so many characters into a word (nas.tasks.coders.LONG)."""


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
    except Exception as error:
        raise DataError(
            "a prepared text is damaged",
            code="prepared-text",
            where=str(entry.folder),
            detail=repr(error)[:500],
            help="nas data clean   deletes it, and it is prepared again",
        ) from error
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
        vocabulary, kind = len(coder.symbols), token_cache.width(len(coder.symbols))
        end = coder.symbols.index(DOCUMENT_END) if self.ends else None
        encoder = _CharacterEncoder(coder, end) if isinstance(coder, Characters) else _SubwordEncoder(coder, end)
        counts = {start: np.zeros(vocabulary, dtype=np.int64) for start in self.edges}
        places, written, current = dict[int, int](), 0, self.edges[0]

        def put(tokens: Integers) -> None:
            nonlocal written
            writer.append("tokens", tokens.astype(kind))
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
            for number, text in enumerate(_pieces(self._train(progress))):
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


class _Encoder(Protocol):
    def take(self, text: str, last: bool) -> Integers:
        """Takes the text that follows, and returns tokens as far as they are certain."""

    def rest(self) -> Integers:
        """Returns the tokens of what was taken, as if the text ended here."""


class _CharacterEncoder:
    def __init__(self, coder: Characters, end: int | None) -> None:
        plain = [(ord(symbol), number) for number, symbol in enumerate(coder.symbols) if len(symbol) == 1]
        self.numbers = np.zeros(text_census.POINTS, dtype=np.int64)
        self.numbers[[point for point, _ in plain]] = [number for _, number in plain]
        self.end = end

    def take(self, text: str, last: bool) -> Integers:
        found = self.numbers[points_of(text)]
        return np.append(found, self.end) if last and self.end is not None else found

    def rest(self) -> Integers:
        return np.empty(0, dtype=np.int64)


class _SubwordEncoder:
    """Encodes pieces side by side, in order."""

    def __init__(self, coder: Coder, end: int | None) -> None:
        assert isinstance(coder, Subwords)
        self.coder, self.end = coder, end
        self.cutter = _Cutter()
        self.waiting: list[str | None] = []  # None: the end of a document
        self.size = 0

    def take(self, text: str, last: bool) -> Integers:
        self.size += len(text) + last
        self.waiting += self.cutter.take(text)
        if last:
            self.waiting += self.cutter.rest()
            self.waiting += [None] if self.end is not None else []
        return self._encoded() if self.size >= PIECE * PIECES_AT_ONCE else np.empty(0, dtype=np.int64)

    def rest(self) -> Integers:
        self.waiting += self.cutter.rest()
        return self._encoded()

    def _encoded(self) -> Integers:
        waiting, self.waiting, self.size = self.waiting, [], 0
        found = iter(self.coder.encode_pieces([text for text in waiting if text is not None]))
        parts = [np.asarray([self.end] if text is None else next(found), dtype=np.int64) for text in waiting]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


WHITE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
"""The tokenizers take these characters for white space; str.isspace() takes more."""


class _Cutter:
    """Cuts a text where no subword can cross, into pieces of about PIECE characters."""

    def __init__(self) -> None:
        self.held = ""

    def take(self, text: str) -> list[str]:
        self.held += text
        pieces = list[str]()
        while len(self.held) > PIECE and (at := _safe(self.held, PIECE)):
            pieces.append(self.held[:at])
            self.held = self.held[at:]
        return pieces

    def rest(self) -> list[str]:
        held, self.held = self.held, ""
        return [held] if held else []


def _safe(text: str, size: int) -> int:
    """Returns the last safe place up to `size`, or 0.

    It lies behind a word. Where there is none, it lies a multiple of 256 characters into the long word or the long
    white space: these are cut there anyway.
    """
    for at in range(size, 0, -1):
        if text[at] in WHITE and text[at - 1] not in WHITE:
            return at
    start = 0
    while start < size and text[start] in WHITE:
        start += 1
    inside = size - start
    first, length = (start, inside) if inside >= LONGEST_WORD else (0, start)
    return first + length // LONGEST_WORD * LONGEST_WORD


def _pieces(texts: Iterator[tuple[str, bool]]) -> Iterator[str]:
    """Cuts documents into pieces, none of them across the end of one."""
    cutter = _Cutter()
    for text, last in texts:
        yield from cutter.take(text)
        if last:
            yield from cutter.rest()
    yield from cutter.rest()
