"""Defines Gated DeltaNet: linear attention that replaces a key's old value and forgets at rates read from the data.

Shapes: B batch, T tokens, D hidden, H heads, E head size, W = 3·H·E values of queries, keys and values together, n
tokens of the short convolution, r = n − 1 of them before the present one.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nas.attention.base import HeadedAttention
from nas.attention.chunks import segments
from nas.attention.delta_rule import apply_rule, apply_to_one, rule_flops
from nas.attention.stacked import Stacked
from nas.attention.state import State
from nas.kinds import GatedDelta, Position

EPSILON = 1e-6

LARGEST_DECAY = 16.0
FIRST_STEPS = (0.001, 0.1)
"""A starts between 0 and LARGEST_DECAY, softplus(b) within FIRST_STEPS, as in Mamba-2 (arXiv:2405.21060)."""


@dataclass
class DeltaState(State):
    """Holds S, and the convolution's inputs at the last r tokens. Its size does not depend on the context."""

    products_BHEE: Tensor
    recent_BrW: Tensor


class GatedDeltaAttention(HeadedAttention[DeltaState]):
    """y_t = W_out (norm(z_t) ⊙ silu(W_gate x_t)), with the gated delta rule for z_t.

        z_t = S_tᵀ q_t / √E,  S_t = α_t (I − β_t k_t k_tᵀ) S_{t−1} + β_t k_t v_tᵀ

    Yang et al. 2025 (arXiv:2412.06464). q, k, v = silu(conv(W x)), a weighted sum over the last n tokens with separate
    weights for each value; then q and k are brought to length 1. In each head β_t = sigmoid(w_β x_t) is the share of
    the old value under k_t that is replaced, and α_t = exp(−A softplus(w_α x_t + b)) is the share of the state that is
    kept, with A > 0 learned in log space. norm(z) = g ⊙ z / √(mean(z²) + ε), with one gain g for all heads. Ignored
    tokens leave the state unchanged, and the convolution reads zeros in their place.

    Where we differ: values are as wide as keys, not twice.

    Time O(T·(c + E)·D), in chunks of c tokens; decode state H·E² + 3·(n − 1)·H·E values, whatever the context.
    """

    def __init__(self, spec: GatedDelta, hidden: int, context: int, causal: bool, position: Position) -> None:
        super().__init__(spec, hidden, context, causal, position)
        self.gate = nn.Linear(hidden, self.width, bias=False)
        self.rates = Stacked(hidden, (self.heads, self.heads))
        self.gain_E = nn.Parameter(torch.ones(self.head_size))
        self.log_decay_H = nn.Parameter((LARGEST_DECAY * (1 - torch.rand(self.heads))).log())
        low, high = (math.log(step) for step in FIRST_STEPS)
        step_H = (low + (high - low) * torch.rand(self.heads)).exp()
        self.step_bias_H = nn.Parameter(step_H + (-torch.expm1(-step_H)).log())  # softplus of it is the step
        self.before = max(spec.conv - 1, 0)
        self.kernel_nW: nn.Parameter | None = None
        if spec.conv:
            self.kernel_nW = nn.Parameter(torch.empty(spec.conv, 3 * self.width))
            nn.init.uniform_(self.kernel_nW, -(spec.conv**-0.5), spec.conv**-0.5)

    def forward(
        self,
        x_BTD: Float[Tensor, "B T D"],
        memory_BSD: Float[Tensor, "B S D"] | None = None,
        padding_BT: Bool[Tensor, "B _"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        if memory_BSD is not None:
            return self.recall(x_BTD, self.remember(memory_BSD, padding_BT))
        self._check_fits(x_BTD.size(1))
        parts: list[Tensor] = []
        held_BrW: Tensor | None = None
        products_BHEE: Tensor | None = None
        for here in segments(x_BTD.size(1)):
            ignored = None if padding_BT is None else padding_BT[:, here]
            recent_BtW = self._recent(x_BTD[:, here], ignored, held_BrW)
            held_BrW = recent_BtW[:, here.stop - here.start :]
            read = *self._convolve(recent_BtW), *self._rates(x_BTD[:, here], ignored)
            y_BtHE, products_BHEE = apply_rule(*read, products_BHEE)
            parts.append(self._finish(y_BtHE, x_BTD[:, here]))
        return torch.cat(parts, dim=1)

    def step(self, x_BTD: Float[Tensor, "B T D"], state: DeltaState) -> Float[Tensor, "B T D"]:
        T = x_BTD.size(1)
        state.advance(T)
        recent_BTW = self._recent(x_BTD, None, state.recent_BrW)
        state.recent_BrW.copy_(recent_BTW[:, T:])
        read = *self._convolve(recent_BTW), *self._rates(x_BTD, None)
        if T == 1:
            return self._finish(apply_to_one(*read, state.products_BHEE), x_BTD)
        y_BTHE, after_BHEE = apply_rule(*read, state.products_BHEE)
        state.products_BHEE.copy_(after_BHEE)
        return self._finish(y_BTHE, x_BTD)

    def weights(
        self, x_BTD: Tensor, memory_BSD: Tensor | None = None, padding_BT: Tensor | None = None
    ) -> Float[Tensor, "B H T S"]:
        if memory_BSD is not None:
            raise self._has_no("cross form: its tokens have no place in another sequence")
        q_BTHE, k_BTHE, _ = self._convolve(self._recent(x_BTD, padding_BT))
        B, T, H, _ = q_BTHE.shape
        # y is linear in the values: with the identity in their place, y holds the weights.
        one_BTHS = torch.eye(T, dtype=x_BTD.dtype, device=x_BTD.device)[:, None].expand(B, T, H, T)
        weight_BTHS, _ = apply_rule(q_BTHE, k_BTHE, one_BTHS, *self._rates(x_BTD, padding_BT))
        return F.normalize(weight_BTHS, p=1, dim=-1, eps=torch.finfo(x_BTD.dtype).tiny).transpose(1, 2)

    def flops(self, tokens: int, source: int | None = None) -> int:
        gates = 2 * tokens * self.hidden * (self.width + 2 * self.heads)
        lengths = (here.stop - here.start for here in segments(tokens))
        rule = sum(rule_flops(length, self.heads, self.head_size) for length in lengths)
        return self._projection_flops(tokens) + gates + rule

    def state_bytes(self, batch: int, context: int) -> int:
        return batch * self.width * (self.head_size + 3 * self.before) * self._item_bytes()

    def _empty_state(self, batch: int, context: int) -> DeltaState:
        products_BHEE = self._new(batch, self.heads, self.head_size, self.head_size)
        return DeltaState(context, products_BHEE, self._new(batch, self.before, 3 * self.width))

    def _recent(self, x_BTD: Tensor, padding_BT: Tensor | None, held_BrW: Tensor | None = None) -> Tensor:
        """Computes W x of the T new tokens, behind W x of the r tokens before them (zeros before the sequence)."""
        made_BTW: Tensor = self.qkv(x_BTD)
        if padding_BT is not None:
            made_BTW = made_BTW.masked_fill(padding_BT[..., None], 0)
        if held_BrW is None:
            return F.pad(made_BTW, (0, 0, self.before, 0))
        return torch.cat((held_BrW, made_BTW), dim=1)

    def _convolve(self, recent_BTW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns queries and keys of length 1, and values, (B, T, H, E), of all tokens but the first r.

        The sum of n products takes half the time of a depthwise convolution on a CPU.
        """
        mixed_BTW = recent_BTW
        if self.kernel_nW is not None:
            T = recent_BTW.size(1) - self.before
            mixed_BTW = recent_BTW[:, :T] * self.kernel_nW[0]
            for i, weight_W in enumerate(self.kernel_nW[1:].unbind(), start=1):
                mixed_BTW = torch.addcmul(mixed_BTW, recent_BTW[:, i : i + T], weight_W)
        heads_BTME = F.silu(mixed_BTW).view(*mixed_BTW.shape[:2], 3 * self.heads, self.head_size)
        qk_BTME, v_BTHE = heads_BTME.tensor_split((2 * self.heads,), dim=2)
        qk_BTME = qk_BTME * (qk_BTME.square().sum(-1, keepdim=True) + EPSILON).rsqrt()
        q_BTHE, k_BTHE = qk_BTME.chunk(2, dim=2)
        return q_BTHE, k_BTHE, v_BTHE

    def _rates(self, x_BTD: Tensor, padding_BT: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns log α and β, (B, T, H); both are 0 at ignored tokens."""
        replace_BTH, forget_BTH = self.rates(x_BTD).chunk(2, dim=-1)
        log_decay_BTH = -self.log_decay_H.exp() * F.softplus(forget_BTH + self.step_bias_H)
        beta_BTH = replace_BTH.sigmoid()
        if padding_BT is None:
            return log_decay_BTH, beta_BTH
        ignored_BT1 = padding_BT[..., None]
        return log_decay_BTH.masked_fill(ignored_BT1, 0), beta_BTH.masked_fill(ignored_BT1, 0)

    def _finish(self, y_BTHE: Tensor, x_BTD: Tensor) -> Tensor:
        normed_BTHE = F.rms_norm(y_BTHE, y_BTHE.shape[-1:], self.gain_E, EPSILON)
        return self._join(normed_BTHE.flatten(2) * F.silu(self.gate(x_BTD)))
