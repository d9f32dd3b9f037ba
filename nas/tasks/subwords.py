"""Texts as subwords: byte-level byte-pair encoding, learned from the texts themselves."""

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers


class Subwords:
    """Byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909) over bytes, as in GPT-2: nothing is ever unknown.

    The 256 bytes are symbols, and the pairs that are merged most often; a space belongs to the word behind it. A task's
    own symbols come first and are never made of text.
    """

    def __init__(self, tokenizer: Tokenizer, own: Sequence[str]) -> None:
        self._tokenizer, self._own = tokenizer, len(own)

    @classmethod
    def learned(cls, texts: Iterable[str], size: int, own: Sequence[str]) -> "Subwords":
        """At most `size` symbols in all, and no fewer than the bytes need."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
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
        tokenizer.encode_special_tokens = True  # a text that says "<pad>" is text
        return cls(tokenizer, own)

    @property
    def symbols(self) -> list[str]:
        """In order of token number."""
        numbers = self._tokenizer.get_vocab()
        return sorted(numbers, key=numbers.__getitem__)

    def encode(self, text: str) -> list[int]:
        numbers: list[int] = self._tokenizer.encode(text).ids
        return numbers

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        return [found.ids for found in self._tokenizer.encode_batch(list(texts))]

    def places(self, text: str) -> list[tuple[int, int]]:
        """Of each token, [start, end) in characters of the text, without the space before a word."""
        places: list[tuple[int, int]] = self._tokenizer.encode(text).offsets
        return places

    def decode(self, tokens: Sequence[int]) -> str:
        """The text, without a task's own symbols."""
        text: str = self._tokenizer.decode([token for token in tokens if token >= self._own], skip_special_tokens=False)
        return text
