"""Computes the gated delta rule: a state in which a key's old value is replaced, not added to.

Shapes: B batch, T tokens, H heads, E head size, F values of a token, N chunks of c tokens, P = B·H pairs of a sequence
and a head.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

CHUNK = 32
"""Tokens solved for together. Of 16, 32 and 64 the fastest to train at T = 512 and 2,048 on a CPU."""

LOWEST_LOG_DECAY = -30.0
"""exp(-30) is as good as 0 in fp32, and the sum over a chunk keeps enough digits for the decays of other tokens."""


@register_flop_formula(torch.ops.aten.linalg_solve_triangular)
def solve_flops(a_shape: torch.Size, b_shape: torch.Size, *_: object, **__: Any) -> int:
    """Counts half of the products of a full c×c matrix with b: entries above the diagonal are not read."""
    return b_shape.numel() * a_shape[-1]


def apply_rule(
    q_BTHE: Float[Tensor, "B T H E"],
    k_BTHE: Float[Tensor, "B T H E"],
    v_BTHF: Float[Tensor, "B T H F"],
    log_decay_BTH: Float[Tensor, "B T H"],
    beta_BTH: Float[Tensor, "B T H"],
    before_BHEF: Float[Tensor, "B H E F"] | None = None,
) -> tuple[Float[Tensor, "B T H F"], Float[Tensor, "B H E F"]]:
    """y_t = S_tᵀ q_t / √E with S_t = α_t (I − β_t k_t k_tᵀ) S_{t−1} + β_t k_t v_tᵀ and α = exp(log_decay).

    S starts at `before`, or at 0. Returns y (B, T, H, F) and the last S. Keys must be no longer than 1.

    This is the chunkwise form of Yang et al. 2025 (arXiv:2412.06464, §3.3). With Γ_t the product of α since the chunk
    began and S the state there, S_t = Γ_t S + Σ_{s ≤ t} Γ_t/Γ_s k_s u_sᵀ: the rule adds new values u in place of v.

    Time O(T·(c + E)·(E + F)) a head.
    """
    B, T, H, E = q_BTHE.shape
    chunk = min(T, CHUNK)
    gates_BTH2 = torch.stack((log_decay_BTH.clamp(min=LOWEST_LOG_DECAY), beta_BTH), dim=-1)
    q_NPcE, k_NPcE, v_NPcF, gates_NPc2 = (_chunks(t, chunk) for t in (q_BTHE, k_BTHE, v_BTHF, gates_BTH2))
    log_NPc1, beta_NPc1 = gates_NPc2.chunk(2, dim=-1)
    log_NPc1 = log_NPc1.cumsum(2)
    # The entries above the diagonal would overflow.
    decay_NPcc = (log_NPc1 - log_NPc1.mT).tril().exp().tril()
    since_NPc1, until_NPc1 = log_NPc1.exp(), (log_NPc1[:, :, -1:] - log_NPc1).exp()

    u_NPcF, w_NPcE = _solve(k_NPcE, v_NPcF, beta_NPc1, since_NPc1, decay_NPcc)
    before_PEF = u_NPcF.new_zeros(B * H, E, v_BTHF.size(-1)) if before_BHEF is None else before_BHEF.flatten(0, 1)
    added_NPEc, kept_NP11 = (until_NPc1 * k_NPcE).mT, since_NPc1[:, :, -1:]
    carried_NPEF, u_NPcF, after_PEF = _carry(before_PEF, u_NPcF, w_NPcE, added_NPEc, kept_NP11)
    y_NPcF = (since_NPc1 * q_NPcE) @ carried_NPEF + ((q_NPcE @ k_NPcE.mT) * decay_NPcc) @ u_NPcF
    y_BTHF = y_NPcF.view(-1, B, H, chunk, v_NPcF.size(-1)).permute(1, 0, 3, 2, 4).flatten(1, 2)[:, :T]
    return y_BTHF / math.sqrt(E), after_PEF.view(B, H, E, -1)


def apply_to_one(
    q_B1HE: Float[Tensor, "B 1 H E"],
    k_B1HE: Float[Tensor, "B 1 H E"],
    v_B1HF: Float[Tensor, "B 1 H F"],
    log_decay_B1H: Float[Tensor, "B 1 H"],
    beta_B1H: Float[Tensor, "B 1 H"],
    state_BHEF: Float[Tensor, "B H E F"],
) -> Float[Tensor, "B 1 H F"]:
    """Applies the rule to one token and changes the state in place."""
    q_BH1E, k_BH1E, v_BH1F = (t.transpose(1, 2) for t in (q_B1HE, k_B1HE, v_B1HF))
    decay_BH11, beta_BH11 = log_decay_B1H.exp().mT[..., None], beta_B1H.mT[..., None]
    state_BHEF.mul_(decay_BH11)
    state_BHEF.addcmul_(k_BH1E.mT, beta_BH11 * (v_BH1F - k_BH1E @ state_BHEF))
    return (q_BH1E @ state_BHEF).transpose(1, 2) / math.sqrt(q_BH1E.size(-1))


def rule_flops(tokens: int, heads: int, size: int) -> int:
    """Counts the FLOPs of the matrix products of `apply_rule`, with values of the heads' size."""
    chunk = min(tokens, CHUNK)
    return -(-tokens // chunk) * heads * chunk * size * (8 * chunk + 6 * size)


def _solve(
    k_NPcE: Tensor, v_NPcF: Tensor, beta_NPc1: Tensor, since_NPc1: Tensor, decay_NPcc: Tensor
) -> tuple[Tensor, Tensor]:
    """Computes U and W of all chunks before any S is known. The new values are U − W S; their rows solve

        u_t + β_t Σ_{s < t} Γ_t/Γ_s (k_t · k_s) u_s = β_t v_t − β_t Γ_t Sᵀ k_t.

    It substitutes. An inverse by blocks is no faster on a CPU, and an inverse as a product of powers of the matrix
    loses digits where keys are alike.
    """
    weighed_NPcE = beta_NPc1 * k_NPcE
    right = torch.cat((beta_NPc1 * v_NPcF, since_NPc1 * weighed_NPcE), dim=-1)
    system_NPcc = (weighed_NPcE @ k_NPcE.mT) * decay_NPcc
    # Its diagonal counts as 1; the stored values are ignored.
    # No device solves in numbers of 16 bits.
    dtype, wide = right.dtype, torch.promote_types(right.dtype, torch.float32)
    solved = torch.linalg.solve_triangular(system_NPcc.to(wide), right.to(wide), upper=False, unitriangular=True)
    solved = solved.to(dtype)
    u_NPcF, w_NPcE = solved.tensor_split((v_NPcF.size(-1),), dim=-1)
    return u_NPcF, w_NPcE


def _carry(
    state_PEF: Tensor, u_NPcF: Tensor, w_NPcE: Tensor, k_NPEc: Tensor, decay_NP11: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns S at the start of each chunk, the new values u − W S of all tokens, and the last S.

    A loop runs over chunks, since each S needs the one before. Chunks could be combined pairwise, but only as E×E
    matrices, whose products cost more than the loop.
    """
    carried, values = [], []
    for u_PcF, w_PcE, k_PEc, decay_P11 in zip(*(t.unbind() for t in (u_NPcF, w_NPcE, k_NPEc, decay_NP11)), strict=True):
        carried.append(state_PEF)
        values.append(torch.baddbmm(u_PcF, w_PcE, state_PEF, alpha=-1))
        state_PEF = torch.baddbmm(decay_P11 * state_PEF, k_PEc, values[-1])
    return torch.stack(carried), torch.stack(values), state_PEF


def _chunks(tokens_BTHE: Tensor, chunk: int) -> Tensor:
    """Returns (N, P, c, E), with zeros behind the last token: β = 0 and log α = 0 leave the state unchanged."""
    missing = -tokens_BTHE.size(1) % chunk
    if missing:
        tokens_BTHE = F.pad(tokens_BTHE, (0, 0, 0, 0, 0, missing))
    B, _, H, E = tokens_BTHE.shape
    return tokens_BTHE.view(B, -1, chunk, H, E).permute(1, 0, 3, 2, 4).flatten(1, 2)
