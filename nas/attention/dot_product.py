"""Attention by dot products, over torch's fused kernels.

Shapes: B batch, T queries, S keys, H heads, K heads of keys and values (H/K queries share one), E head size.
"""

import torch.nn.functional as F
from torch import Tensor


def attend(
    q_BTHE: Tensor,
    k_BSKE: Tensor,
    v_BSKE: Tensor,
    scale: float | None = None,
    visible: Tensor | None = None,
    causal: bool = False,
) -> Tensor:
    """softmax(scale · q kᵀ) v over the visible keys, heads side by side: (B, T, H·E).

    `visible` is True where a query may look, of a shape that broadcasts to (B, H, T, S); a query that sees nothing
    gives zeros. `causal` (T = S, no `visible`) needs no mask in memory.
    """
    y_BHTE = F.scaled_dot_product_attention(
        q_BTHE.transpose(1, 2),
        k_BSKE.transpose(1, 2),
        v_BSKE.transpose(1, 2),
        attn_mask=visible,
        is_causal=causal,
        scale=scale,
        enable_gqa=q_BTHE.size(2) != k_BSKE.size(2),
    )
    return y_BHTE.transpose(1, 2).flatten(2)


def attend_one(q_B1HE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, scale: float | None = None) -> Tensor:
    """The same for a single query that sees every key: (B, 1, H·E).

    The queries that share a key head stand in a row in place of tokens, so nothing is masked, moved or expanded.
    """
    B, _, H, E = q_B1HE.shape
    K = k_BKSE.size(1)
    y_BKGE = F.scaled_dot_product_attention(q_B1HE.view(B, K, H // K, E), k_BKSE, v_BKSE, scale=scale)
    return y_BKGE.reshape(B, 1, H * E)
