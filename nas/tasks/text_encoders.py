"""Encodes a text in a stream, piece by piece, into the tokens that it would have if it were encoded at once."""

import re
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from nas.data import text_census, token_cache
from nas.data.text_census import points_of
from nas.data.token_cache import Integers
from nas.tasks.coders import Characters, Coder, Subwords

PIECE, PIECES_AT_ONCE = 2**16, 64
"""Characters that are encoded as one text, and how many such texts are encoded side by side."""
WORDS_AT_ONCE = 2**20
"""Characters whose words are looked up together."""
WORDS_KEPT, LONGEST_KEPT = 2**18, 32
"""The most words whose tokens are kept, about 60 MB of memory, and the characters of the longest."""
LONGEST_WORD = 256
"""Subwords never cross a place so many characters into a word (nas.tasks.coders.LONG)."""
WHITE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
"""The tokenizers take these characters for white space; str.isspace() takes more."""
_WORD = re.compile(f"[{WHITE}]{{256}}|[{WHITE}]{{0,255}}[^{WHITE}]{{1,256}}|[{WHITE}]+")
"""A word with the white space before it. No subword that was learned here crosses its ends."""
_END = "\0"
"""Stands for the end of a document among its words; no text holds it."""


class Encoder(Protocol):
    def take(self, text: str, last: bool) -> Integers:
        """Takes the text that follows, and returns tokens as far as they are certain."""

    def rest(self) -> Integers:
        """Returns the tokens of what was taken, as if the text ended here."""


def encoder_of(coder: Coder, end: int | None, learned: bool) -> Encoder:
    """Chooses the encoder of a coder. `end`: the token behind a document. `learned`: the subwords were learned here."""
    if isinstance(coder, Characters):
        return CharacterEncoder(coder, end)
    assert isinstance(coder, Subwords)
    return WordEncoder(coder, end) if learned else PieceEncoder(coder, end)


class CharacterEncoder:
    """Looks characters up in an array over all code points."""

    def __init__(self, coder: Characters, end: int | None) -> None:
        plain = [(ord(symbol), number) for number, symbol in enumerate(coder.symbols) if len(symbol) == 1]
        self.numbers = np.zeros(text_census.POINTS, dtype=token_cache.width(len(coder.symbols)))
        self.numbers[[point for point, _ in plain]] = [number for _, number in plain]
        self.end = end

    def take(self, text: str, last: bool) -> Integers:
        found = self.numbers[points_of(text)]
        return np.append(found, self.numbers.dtype.type(self.end)) if last and self.end is not None else found

    def rest(self) -> Integers:
        return self.numbers[:0]


class WordEncoder:
    """Encodes each word once, and looks its tokens up when it comes again: most words of a text have come before."""

    def __init__(self, coder: Subwords, end: int | None) -> None:
        self.coder, self.kind = coder, token_cache.width(len(coder.symbols))
        self.ends = [] if end is None else [_END]
        self.known = {_END: np.asarray([] if end is None else [end], self.kind).tobytes()}
        self.words, self.size, self.held = list[str](), 0, ""

    def take(self, text: str, last: bool) -> Integers:
        self.held += text
        if last:
            self._cut(len(self.held))
            self.words += self.ends
        elif len(self.held) > WORDS_AT_ONCE:
            self._cut(_safe(self.held, len(self.held) - 1))
        return self._encoded() if self.size >= WORDS_AT_ONCE else np.empty(0, self.kind)

    def rest(self) -> Integers:
        self._cut(len(self.held))
        return self._encoded()

    def _cut(self, at: int) -> None:
        self.words += _WORD.findall(self.held, 0, at)
        self.held, self.size = self.held[at:], self.size + at

    def _encoded(self) -> Integers:
        words, self.words, self.size = self.words, [], 0
        new = list(set(words).difference(self.known))
        for word, tokens in zip(new, self.coder.encode_pieces(new), strict=True):
            self.known[word] = np.asarray(tokens, self.kind).tobytes()
        found = np.frombuffer(b"".join(map(self.known.__getitem__, words)), self.kind)
        for word in new:
            if len(word) > LONGEST_KEPT:
                del self.known[word]
        if len(self.known) > WORDS_KEPT:
            self.known = {_END: self.known[_END]}
        return found


class PieceEncoder:
    """Encodes pieces side by side, in order: for any tokenizer."""

    def __init__(self, coder: Subwords, end: int | None) -> None:
        self.coder, self.end, self.kind = coder, end, token_cache.width(len(coder.symbols))
        self.cutter = _Cutter()
        self.waiting: list[str | None] = []  # None: the end of a document
        self.size = 0

    def take(self, text: str, last: bool) -> Integers:
        self.size += len(text) + last
        self.waiting += self.cutter.take(text)
        if last:
            self.waiting += self.cutter.rest()
            self.waiting += [None] if self.end is not None else []
        return self._encoded() if self.size >= PIECE * PIECES_AT_ONCE else np.empty(0, self.kind)

    def rest(self) -> Integers:
        self.waiting += self.cutter.rest()
        return self._encoded()

    def _encoded(self) -> Integers:
        waiting, self.waiting, self.size = self.waiting, [], 0
        found = iter(self.coder.encode_pieces([text for text in waiting if text is not None]))
        parts = [np.asarray([self.end] if text is None else next(found), self.kind) for text in waiting]
        return np.concatenate(parts) if parts else np.empty(0, self.kind)


def pieces(texts: Iterator[tuple[str, bool]]) -> Iterator[str]:
    """Cuts documents, (text, whether it ends), into pieces of about PIECE characters, none across a document's end."""
    cutter = _Cutter()
    for text, last in texts:
        yield from cutter.take(text)
        if last:
            yield from cutter.rest()
    yield from cutter.rest()


class _Cutter:
    """Cuts a text where no subword can cross, into pieces of about PIECE characters."""

    def __init__(self) -> None:
        self.held = ""

    def take(self, text: str) -> list[str]:
        self.held += text
        found, start = list[str](), 0
        while len(self.held) - start > PIECE and (at := _safe(self.held, start + PIECE, start)):
            found.append(self.held[start:at])
            start = at
        self.held = self.held[start:]
        return found

    def rest(self) -> list[str]:
        held, self.held = self.held, ""
        return [held] if held else []


def _safe(text: str, end: int, start: int = 0) -> int:
    """Returns the last safe place in (start, end], or 0. The text goes on behind `end`, and may be cut at `start`.

    It lies behind a word. Where there is none, it lies a multiple of 256 characters into the long word or the long
    white space: these are cut there anyway.
    """
    for at in range(end, start, -1):
        if text[at] in WHITE and text[at - 1] not in WHITE:
            return at
    word = start
    while word < end and text[word] in WHITE:
        word += 1
    first, length = (word, end - word) if end - word >= LONGEST_WORD else (start, word - start)
    at = first + length // LONGEST_WORD * LONGEST_WORD
    return at if at > start else 0
