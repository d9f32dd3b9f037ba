"""Computes attention by dot products with torch's fused kernels.

Shapes: B batch, T queries, S keys, H heads, K heads of keys and values (H/K queries share one), E head size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(
    q_BTHE: Tensor,
    k_BSKE: Tensor,
    v_BSKE: Tensor,
    scale: float | None = None,
    visible: Tensor | None = None,
    causal: bool = False,
    bias: Tensor | None = None,
) -> Tensor:
    """y = softmax(scale · q kᵀ + bias) v over the visible keys, with heads side by side: (B, T, H·E).

    `visible` is True where a query may look. It and `bias` broadcast to (B, H, T, S). A query that sees nothing gives
    zeros. `causal` (T = S, no `visible`, no `bias`) needs no mask in memory.
    """
    y_BHTE = F.scaled_dot_product_attention(
        q_BTHE.transpose(1, 2),
        k_BSKE.transpose(1, 2),
        v_BSKE.transpose(1, 2),
        attn_mask=mask_of(visible, bias),
        is_causal=causal,
        scale=scale,
        enable_gqa=q_BTHE.size(2) != k_BSKE.size(2),
    )
    return y_BHTE.transpose(1, 2).flatten(2)


def attend_one(
    q_B1HE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, scale: float | None = None, bias_HS: Tensor | None = None
) -> Tensor:
    """Attends with a single query that sees every key: (B, 1, H·E).

    The queries that share a key head take the place of tokens, so nothing is masked, moved or expanded.
    """
    B, _, H, E = q_B1HE.shape
    K = k_BKSE.size(1)
    mask_KGS = None if bias_HS is None else bias_HS.view(K, H // K, -1)
    y_BKGE = F.scaled_dot_product_attention(
        q_B1HE.view(B, K, H // K, E), k_BKSE, v_BKSE, attn_mask=mask_KGS, scale=scale
    )
    return y_BKGE.reshape(B, 1, H * E)


def explicit_weights(
    q_BTHE: Tensor,
    k_BSKE: Tensor,
    scale: float | None = None,
    visible: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Returns the weights that `attend` multiplies values by, (B, H, T, S); zeros for a query that sees nothing."""
    k_BSHE = k_BSKE.repeat_interleave(q_BTHE.size(2) // k_BSKE.size(2), dim=2)
    scores_BHTS = torch.einsum("bthe,bshe->bhts", q_BTHE, k_BSHE) * (
        1 / math.sqrt(q_BTHE.size(3)) if scale is None else scale
    )
    if bias is not None:
        scores_BHTS = scores_BHTS + bias
    if visible is not None:
        scores_BHTS = scores_BHTS.masked_fill(~visible, -torch.inf)
    return torch.softmax(scores_BHTS, dim=-1).nan_to_num(0.0)


def mask_of(visible: Tensor | None, bias: Tensor | None) -> Tensor | None:
    """Returns the mask that the kernel takes: True where visible, or a number to add, −∞ where hidden."""
    if bias is None or visible is None:
        return visible if bias is None else bias
    return torch.where(visible, bias, -torch.inf)


def lower_triangle(tokens: int, seen: int, device: torch.device) -> Tensor:
    """Returns (T, seen + T), True where query t, at position seen + t, may look."""
    return torch.ones(tokens, seen + tokens, dtype=torch.bool, device=device).tril(seen)
