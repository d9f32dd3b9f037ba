"""Encodes texts as token numbers and decodes them: by characters, by words, or by learned subwords."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from nas import bounds
from nas.errors import DataError
from nas.files import read_bytes

AT_ONCE = 10_000
"""Texts that are encoded at once: the tokenizers keep some kilobytes for each while they work."""

LONG = r"\S{256}|\s{256}"
"""Longer words are cut, as the time to merge one grows with the square of its length."""


class Coder(ABC):
    """Holds `symbols`, the vocabulary in order of token number, with a task's own symbols (padding, a mask)."""

    kind: str
    symbols: list[str]

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Returns token numbers. Raises DataError for what the vocabulary lacks."""

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the text of these token numbers."""

    def shown(self, token: int) -> str:
        """Returns one token for people to read."""
        return self.symbols[token]

    def saved(self) -> dict[str, Any]:
        """Returns the coder as JSON, for `restored`."""
        return {"coder": self.kind, "symbols": self.symbols}


class Characters(Coder):
    """Encodes by characters; a task's own symbols count as characters."""

    kind = "characters"

    def __init__(self, symbols: Sequence[str]) -> None:
        self.symbols = list(symbols)
        self._numbers = {symbol: number for number, symbol in enumerate(self.symbols)}

    def encode(self, text: str) -> list[int]:
        for offset, character in enumerate(text):
            if character not in self._numbers:
                known = "".join(symbol for symbol in self.symbols if len(symbol) == 1)
                raise DataError(
                    f"the character {character!r} is not in the vocabulary",
                    code="unknown-character",
                    where=f"character {offset} of the text",
                    help=f"use the {len(known)} characters of the corpus: {known!r}",
                )
        return [self._numbers[character] for character in text]

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(self.symbols[token] for token in tokens)


class Words(Coder):
    """Encodes words, separated by spaces."""

    kind = "words"

    def __init__(self, symbols: Sequence[str]) -> None:
        self.symbols = list(symbols)
        self._numbers = {symbol: number for number, symbol in enumerate(self.symbols)}

    def encode(self, text: str) -> list[int]:
        words = text.split()
        for place, word in enumerate(words, start=1):
            if word not in self._numbers:
                raise DataError(
                    f"the symbol {word!r} is not in the vocabulary",
                    code="unknown-symbol",
                    where=f"symbol {place} of the text",
                    help=f"use the {len(self.symbols)} symbols {self.symbols[0]} to {self.symbols[-1]}, spaces between",
                )
        return [self._numbers[word] for word in words]

    def decode(self, tokens: Sequence[int]) -> str:
        return " ".join(self.symbols[token] for token in tokens)


class Subwords(Coder):
    """Encodes bytes by byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909), as GPT-2 does.

    Nothing is ever unknown. The symbols are the 256 bytes, and the pairs that are merged most often; a space belongs to
    the word after it. A task's own symbols come first and never stand for text.
    """

    kind = "subwords"

    def __init__(self, tokenizer: Tokenizer, own: int | Iterable[int]) -> None:
        """`own`: how many symbols at the front stand for no text, or the numbers of these symbols."""
        tokenizer.encode_special_tokens = True  # a text that says "<pad>" is text
        self._tokenizer, self._own = tokenizer, frozenset(range(own) if isinstance(own, int) else own)
        numbers = tokenizer.get_vocab()
        self.symbols = sorted(numbers, key=numbers.__getitem__)

    @classmethod
    def learned(cls, texts: Iterable[str], size: int, own: Sequence[str]) -> "Subwords":
        """Learns at most `size` symbols in all, and no fewer than the bytes need."""
        tokenizer = Tokenizer(models.BPE())
        cut = pre_tokenizers.Split(Regex(LONG), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False)])
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=max(size, len(alphabet) + len(own)),
            special_tokens=list(own),
            initial_alphabet=alphabet,
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer, len(own))

    @classmethod
    def read(cls, path: Path, own: Sequence[str]) -> "Subwords":
        """Reads a `tokenizer.json` of Hugging Face's tokenizers, and adds the task's own symbols behind its own ones.

        Raises DataError.
        """
        try:
            tokenizer = Tokenizer.from_str(tokenizer_file(path).decode())
        except DataError:
            raise
        except Exception as error:  # noqa: BLE001  the library raises Exception itself
            raise _no_tokenizer(path, str(error)) from None
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.add_special_tokens(list(own))
        numbers = tokenizer.get_vocab()
        return cls(tokenizer, [numbers[symbol] for symbol in own])

    def encode(self, text: str) -> list[int]:
        numbers: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return numbers

    def encode_pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """Encodes each text, on all cores."""
        return [found.ids for found in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        parts = (texts[start : start + AT_ONCE] for start in range(0, len(texts), AT_ONCE))
        return [
            found.ids for part in parts for found in self._tokenizer.encode_batch(list(part), add_special_tokens=False)
        ]

    def encode_with_places(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Encodes a text, and gives each token's [start, end) in its characters, without the space before a word."""
        found = self._tokenizer.encode(text, add_special_tokens=False)
        return found.ids, found.offsets

    def decode(self, tokens: Sequence[int]) -> str:
        """Leaves out a task's own symbols."""
        kept = [token for token in tokens if token not in self._own]
        text: str = self._tokenizer.decode(kept, skip_special_tokens=False)
        return text

    def shown(self, token: int) -> str:
        """Shows the space before a word; the bytes of half a character as they are named."""
        text = self.decode([token]) if token not in self._own else ""
        return text if text and "\ufffd" not in text else self.symbols[token]

    def saved(self) -> dict[str, Any]:
        own = sorted(self._own)
        first = own == list(range(len(own)))  # as of all that this class learns
        return super().saved() | {"own": len(own) if first else own, "tokenizer": self._tokenizer.to_str()}


def tokenizer_file(path: Path) -> bytes:
    """Returns the content of a `tokenizer.json`. Raises DataError."""
    try:
        return read_bytes(path, bounds.TOKENIZER_BYTES)
    except (OSError, ValueError) as error:
        raise _no_tokenizer(path, getattr(error, "strerror", None) or str(error)) from None


def _no_tokenizer(path: Path, detail: str) -> DataError:
    return DataError(
        "the tokenizer cannot be read",
        code="tokenizer",
        where=str(path),
        detail=detail[:500],
        help="task.tokenizer names a tokenizer.json, as Hugging Face's tokenizers save it",
    )


def restored(saved: Mapping[str, Any]) -> Coder:
    """Restores a coder from what `saved` returned."""
    if saved.get("coder") == Subwords.kind:
        return Subwords(Tokenizer.from_str(saved["tokenizer"]), saved["own"])
    return (Words if saved.get("coder") == Words.kind else Characters)(saved["symbols"])
