"""Reads a span of the text, and writes it again, or backwards.

Shapes: B batch, T context, V vocabulary.
"""

import torch
from torch import Tensor

from nas.tasks.base import Inputs, Split
from nas.tasks.text import TextTask
from nas.tasks.token_task import IGNORED


class CopySpans(TextTask):
    """loss = −ln p(y_t | the span, y_{<t}), where y is the span and an end. Spans have 1 to context − 1 characters.

    The model's inputs are the span (B, T), what it has written so far after a start token, and the span's padding.
    """

    own_symbols = ("<pad>", "<start>", "<end>")

    def examples(self, starts_B: Tensor, generator: torch.Generator) -> tuple[Inputs, Tensor]:
        pad, start, end = (self.coder.symbols.index(symbol) for symbol in self.own_symbols)
        length_B1 = torch.randint(1, self.context, (len(starts_B), 1), generator=generator)
        place_T = torch.arange(self.context)
        padding_BT = place_T >= length_B1
        source_BT = self.windows(starts_B, self.context).masked_fill(padding_BT, pad)
        answer_BT = self._answer(source_BT, length_B1)
        targets_BT = torch.where(place_T == length_B1, end, answer_BT.masked_fill(padding_BT, IGNORED))
        written_BT = torch.cat((torch.full_like(length_B1, start), targets_BT[:, :-1]), dim=1)
        return (source_BT, written_BT.masked_fill(place_T > length_B1, pad), padding_BT), targets_BT

    def metrics(self, split: Split, loss: float, accuracy: float, whole: float) -> dict[str, float]:
        return {"exact_match": whole}

    def _answer(self, source_BT: Tensor, length_B1: Tensor) -> Tensor:
        """Returns what is to be written, in the first `length` places."""
        return source_BT


class ReverseSpans(CopySpans):
    """Asks for the span backwards."""

    def _answer(self, source_BT: Tensor, length_B1: Tensor) -> Tensor:
        place_T = torch.arange(self.context)
        return source_BT.gather(1, (length_B1 - 1 - place_T).clamp_min(0))
