"""Holds what kinds with a decaying state share: chunks in training, one product a token in decoding, a gated output.

Shapes: B batch, T tokens, S tokens attended to, D hidden, H heads, E head size, V values a token adds, N chunks of c
tokens. G is the last dimension of decays: 1 for one decay a head, or E for one decay a row of the state.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nas.attention.base import HeadedAttention
from nas.attention.chunks import chunked, segments
from nas.attention.state import State
from nas.kinds import Headed, Position

CHUNK = 32
"""Tokens compared with each other directly. Of 16, 32 and 64 the fastest to train on a CPU at T = 512 to 4,096."""

LOWEST_LOG_DECAY = -80 / CHUNK
"""The least decay of a token. exp of all decays of a chunk, or of their opposites, stays within fp32, which ends at
exp(88)."""

EPSILON = 1e-6


@dataclass
class DecayedSum(State):
    """Holds Σ k vᵀ, each product decayed by the tokens that followed. Its size does not depend on the context."""

    products_BHEE: Tensor


class DecayingAttention(HeadedAttention[DecayedSum]):
    """y_t = S_tᵀ q_t / √E with S_t = exp(g_t) ⊙ S_{t−1} + k_t v_tᵀ, then W_out (swish(W_gate x_t) ⊙ norm(y_t)).

    norm(y) = y / √(mean(y²) + ε) in each head has no gain, since W_out can hold it. A kind defines the log-decays g_t.
    Ignored tokens add nothing to S.
    """

    def __init__(self, spec: Headed, hidden: int, context: int, causal: bool, position: Position) -> None:
        super().__init__(spec, hidden, context, causal, position)
        self.gate = nn.Linear(hidden, self.width, bias=False)

    @abstractmethod
    def _log_decay(self, x_BTD: Tensor, padding_BT: Tensor | None) -> Float[Tensor, "_ T H G"]:
        """Returns g of each token, between `LOWEST_LOG_DECAY` and 0."""

    def forward(
        self,
        x_BTD: Float[Tensor, "B T D"],
        memory_BSD: Float[Tensor, "B S D"] | None = None,
        padding_BT: Bool[Tensor, "B _"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        if memory_BSD is not None:
            return self.recall(x_BTD, self.remember(memory_BSD, padding_BT))
        parts: list[Tensor] = []
        products_BHEE: Tensor | None = None
        for here in segments(x_BTD.size(1)):
            ignored = None if padding_BT is None else padding_BT[:, here]
            qkv = self._project_kept(x_BTD[:, here], here.start, ignored)
            y_BTHE, products_BHEE = sum_past(*qkv, self._log_decay(x_BTD[:, here], ignored), products_BHEE)
            parts.append(self._finish(y_BTHE, x_BTD[:, here]))
        return torch.cat(parts, dim=1)

    def step(self, x_BTD: Float[Tensor, "B T D"], state: DecayedSum) -> Float[Tensor, "B T D"]:
        start = state.advance(x_BTD.size(1))
        q_BTHE, k_BTHE, v_BTHE = self._project_kept(x_BTD, start)
        log_decay_BTHG = self._log_decay(x_BTD, None)
        products_BHEE = state.products_BHEE
        if x_BTD.size(1) == 1:
            decay_BHG1 = log_decay_BTHG.exp().permute(0, 2, 3, 1)
            products_BHEE.mul_(decay_BHG1).addcmul_(k_BTHE.permute(0, 2, 3, 1), v_BTHE.transpose(1, 2))
            y_BTHE = ((q_BTHE / math.sqrt(self.head_size)).transpose(1, 2) @ products_BHEE).transpose(1, 2)
        else:
            y_BTHE, after_BHEE = sum_past(q_BTHE, k_BTHE, v_BTHE, log_decay_BTHG, products_BHEE)
            products_BHEE.copy_(after_BHEE)
        return self._finish(y_BTHE, x_BTD)

    def weights(
        self, x_BTD: Tensor, memory_BSD: Tensor | None = None, padding_BT: Tensor | None = None
    ) -> Float[Tensor, "B H T S"]:
        if memory_BSD is not None:
            raise self._has_no("cross form: its tokens have no place in another sequence")
        q_BTHE, k_BTHE, _ = self._project_kept(x_BTD, 0, padding_BT)
        B, T, H, _ = q_BTHE.shape
        # y is linear in the values: with the identity in their place, y holds the weights.
        one_BTHS = torch.eye(T, dtype=x_BTD.dtype, device=x_BTD.device)[:, None].expand(B, T, H, T)
        weight_BTHS, _ = sum_past(q_BTHE, k_BTHE, one_BTHS, self._log_decay(x_BTD, padding_BT))
        return F.normalize(weight_BTHS, p=1, dim=-1, eps=torch.finfo(x_BTD.dtype).tiny).transpose(1, 2)

    def flops(self, tokens: int, source: int | None = None) -> int:
        mixed = 0
        for here in segments(tokens):
            length = here.stop - here.start
            chunk = min(length, CHUNK)
            mixed += 4 * -(-length // chunk) * chunk * (chunk + self.head_size) * self.width
        return self._projection_flops(tokens) + mixed + 2 * tokens * self.hidden * self.width

    def state_bytes(self, batch: int, context: int) -> int:
        return batch * self.width * self.head_size * self._item_bytes()

    def _empty_state(self, batch: int, context: int) -> DecayedSum:
        return DecayedSum(context, self._new(batch, self.heads, self.head_size, self.head_size))

    def _project_kept(
        self, x_BTD: Tensor, start: int, padding_BT: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns queries, keys and values, turned where positions are rotary; keys of ignored tokens are 0."""
        q_BTHE, k_BTHE, v_BTHE = self._project_turned(x_BTD, start)
        if padding_BT is not None:
            k_BTHE = k_BTHE.masked_fill(padding_BT[..., None, None], 0)
        return q_BTHE, k_BTHE, v_BTHE

    def _finish(self, y_BTHE: Tensor, x_BTD: Tensor) -> Tensor:
        normed_BTD = F.rms_norm(y_BTHE, y_BTHE.shape[-1:], eps=EPSILON).flatten(2)
        return self._join(F.silu(self.gate(x_BTD)) * normed_BTD)


def sum_past(
    q_BTHE: Tensor, k_BTHE: Tensor, v_BTHV: Tensor, log_decay_BTHG: Tensor, before_BHEV: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """y_t = S_tᵀ q_t / √E (B, T, H, V), with S_t = exp(g_t) ⊙ S_{t−1} + k_t v_tᵀ from S = `before`, or 0.

    Returns y and the last S. Within a chunk S_tᵀ q_t is Σ_s (q_t ⊙ exp(b_t − m)) · (k_s ⊙ exp(m − b_s)) v_s, with b the
    sum of log-decays since the chunk began and m its value in the middle of the chunk. So neither exponent exceeds half
    of a chunk's decay (Yang et al. 2024, arXiv:2312.06635, have b_t and −b_s instead). Between chunks S is carried.
    """
    T = q_BTHE.size(1)
    chunk = min(T, CHUNK)
    q_BNHcE, k_BNHcE, v_BNHcV, log_decay_BNHcG = (chunked(t, chunk) for t in (q_BTHE, k_BTHE, v_BTHV, log_decay_BTHG))
    b_BNHcG = log_decay_BNHcG.cumsum(3)
    # y does not depend on m, so m needs no gradient.
    middle_BNH1G, end_BNH1G = b_BNHcG[:, :, :, chunk // 2, None].detach(), b_BNHcG[:, :, :, -1:]
    # The division by √E happens in the exponent, where it costs nothing.
    q_BNHcE = q_BNHcE * (b_BNHcG - (middle_BNH1G + math.log(q_BTHE.size(-1)) / 2)).exp()
    k_BNHcE = k_BNHcE * (middle_BNH1G - b_BNHcG).exp()
    added_BNHEV = (end_BNH1G - middle_BNH1G).exp().mT * (k_BNHcE.mT @ v_BNHcV)
    if before_BHEV is None:
        before_BHEV = torch.zeros_like(added_BNHEV[:, 0])
    carried_BNHEV, after_BHEV = _carry(added_BNHEV, end_BNH1G.exp().mT, before_BHEV)
    y_BNHcV = (q_BNHcE @ k_BNHcE.mT).tril() @ v_BNHcV + q_BNHcE @ (middle_BNH1G.exp().mT * carried_BNHEV)
    return y_BNHcV.transpose(2, 3).flatten(1, 2)[:, :T], after_BHEV


def _carry(added_BNHEV: Tensor, decay_BNHG1: Tensor, before_BHEV: Tensor) -> tuple[Tensor, Tensor]:
    """Returns S at the start of each chunk and behind the last: S ← decay ⊙ S + added.

    A loop runs over chunks, since each S needs the one before. Combining them pairwise in log₂ N rounds instead took 2
    to 15 % longer to train at T = 512 to 4,096 on a CPU, and a closed form would divide by decays that underflow.
    """
    states = [before_BHEV]
    for added_BHEV, decay_BHG1 in zip(added_BNHEV.unbind(1), decay_BNHG1.unbind(1), strict=True):
        states.append(torch.addcmul(added_BHEV, decay_BHG1, states[-1]))
    return torch.stack(states[:-1], dim=1), states[-1]
