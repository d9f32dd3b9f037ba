"""Cuts long sequences into chunks, whose tokens are compared directly, and into segments of many chunks.

Shapes: B batch, T tokens, H heads, E values of each, N chunks of c tokens.
"""

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor

SEGMENT = 1024
"""Tokens mixed at once; longer sequences go through segment by segment. What a segment needs stays in the cache, and
fresh memory for a whole sequence costs more than its arithmetic: linear attention of 4,096 tokens at hidden 128 took
13.7 ms at once, and 11.7 so."""


def segments(tokens: int) -> Iterator[slice]:
    """Yields the pieces of a sequence in order; all but the last have SEGMENT tokens."""
    return (slice(start, min(start + SEGMENT, tokens)) for start in range(0, tokens, SEGMENT))


def chunked(tokens_BTHE: Tensor, chunk: int) -> Tensor:
    """Returns (B, N, H, c, E), with zeros behind the last token."""
    missing = -tokens_BTHE.size(1) % chunk
    if missing:
        tokens_BTHE = F.pad(tokens_BTHE, (0, 0, 0, 0, 0, missing))
    B, T, H, E = tokens_BTHE.shape
    # In the order in which products take it; otherwise each product would copy it.
    return tokens_BTHE.reshape(B, T // chunk, chunk, H, E).transpose(2, 3).contiguous()
