"""Computes attention to few keys with one fused GPU kernel, which skips tiles of keys that no query of a tile sees.

Shapes: B batch, T tokens, H heads, K heads of keys and values, E head size, N tiles of 128 tokens.
"""

from collections.abc import Callable
from functools import cache, lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nas.attention.alibi import Alibi
from nas.attention.gathered import Pattern, Rule

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

TILE = 128
LONG = 1024
"""Tokens from which on a kernel of its own is compiled, which takes seconds for every new shape."""
KERNELS = 64
"""The number of kernels that a process may compile. Beyond, the compiler raises; left at its own limit of 8, it would
silently compute the whole square instead."""


def pays(q_BTHE: Tensor, pattern: Pattern) -> bool:
    """Tells whether this form is faster than the gathered one.

    It is on a GPU, for long sequences of which a query sees little.
    """
    _, T, _, E = q_BTHE.shape
    # Triton's products take at least 16 values, and the kernel knows no doubles.
    fits = E >= 16 and q_BTHE.dtype != torch.float64 and q_BTHE.is_cuda and find_spec("triton") is not None
    return fits and max(LONG, pattern.keys) < T


def attend_fused(
    sees: Rule,
    q_BTHE: Tensor,
    k_BTKE: Tensor,
    v_BTKE: Tensor,
    alibi: Alibi | None = None,
    padding_BT: Tensor | None = None,
) -> Tensor:
    """y = softmax(q kᵀ / √E + alibi) v over what `sees` shows, with heads side by side: (B, T, H·E)."""
    q_BHTE, k_BKTE, v_BKTE = (t.transpose(1, 2) for t in (q_BTHE, k_BTKE, v_BTKE))
    y_BHTE: Tensor = _kernel(q_BTHE.is_cuda)(
        q_BHTE,
        k_BKTE,
        v_BKTE,
        score_mod=_changed(None if alibi is None else alibi.slope_H11.flatten(), padding_BT),
        block_mask=block_mask(sees, q_BTHE.size(1), q_BTHE.device),
        enable_gqa=q_BTHE.size(2) != k_BTKE.size(2),
    )
    return y_BHTE.transpose(1, 2).flatten(2)


def _changed(slope_H: Tensor | None, padding_BT: Tensor | None) -> Callable[..., Tensor] | None:
    """Returns the kernel's change of scores: lowered by distance, and −∞ at keys to ignore; None where nothing changes.

    The block mask does not hold the ignored keys, since it would have to be made again for every batch.
    """
    if slope_H is None and padding_BT is None:
        return None

    def changed(score: Tensor, b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
        if slope_H is not None:
            score = score - slope_H[h] * (t - s).abs()
        if padding_BT is not None:
            score = torch.where(padding_BT[b, s], -torch.inf, score)
        return score

    return changed


@lru_cache(maxsize=32)
def block_mask(sees: Rule, tokens: int, device: torch.device) -> "BlockMask":
    """Tells which tiles of keys each tile of queries sees, and whether it sees all of them.

    It is made row of tiles by row of tiles, once, in time O(T²), so that the square is never in memory.
    """
    from torch.nn.attention.flex_attention import BlockMask

    def rule(b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
        return sees(t, s)

    # The mask is kept, and tensors made in inference mode cannot be used in training later.
    with torch.inference_mode(False), torch.no_grad():
        key_S = torch.arange(tokens + -tokens % TILE, device=device)
        seen = []
        for query_t in key_S.view(-1, TILE):
            visible_tS = sees(query_t[:, None], key_S) & (query_t[:, None] < tokens) & (key_S < tokens)
            seen.append(visible_tS.view(TILE, -1, TILE).sum(dim=(0, 2)))
        seen_NN = torch.stack(seen)[None, None]
        whole_NN = seen_NN == TILE * TILE
        return BlockMask.from_kv_blocks(
            *_ordered((seen_NN > 0) & ~whole_NN),
            *_ordered(whole_NN),
            BLOCK_SIZE=TILE,
            mask_mod=rule,
            seq_lengths=(tokens, tokens),
        )


def _ordered(tiles_NN: Tensor) -> tuple[Tensor, Tensor]:
    """Counts the tiles of each row, and lists their columns before the other columns."""
    columns_NN = tiles_NN.int().argsort(dim=-1, descending=True, stable=True)
    return tiles_NN.sum(dim=-1).int(), columns_NN.int()


@cache
def _kernel(compiled: bool) -> Callable[..., Any]:
    """Returns the kernel, compiled for every shape and rule.

    Without `compiled` it is the plain definition, with which tests run on a CPU.
    """
    from torch.nn.attention.flex_attention import flex_attention

    if not compiled:
        return flex_attention
    fused = torch.compile(flex_attention, dynamic=False, fullgraph=True)

    def call(*arguments: Any, **options: Any) -> Any:
        with torch._dynamo.config.patch(recompile_limit=KERNELS):
            return fused(*arguments, **options)

    return call
