"""Defines beam search: several sequences are written side by side, and the best one is returned.

Shapes: B batch, K beams, N = B·K rows of a model's batch, J candidates, V vocabulary, U steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nas.attention.state import select
from nas.errors import UsageError

Step = Callable[[Tensor, Any], Tensor]
"""The type of a model's `decode_step`: (token_N, state) → logits (N, V)."""


@dataclass(frozen=True)
class Beam:
    """Finds the y of the best log P(y) / lp(|y|) among the sequences that it reaches, lp(u) = ((5 + u) / 6)^α.

    Wu et al. 2016 (arXiv:1609.08144, eq. 14), without the coverage term. α is `length_penalty`, and the stop token
    counts in |y|. Each step continues the `beams` likeliest sequences. A sequence that stops while among the `beams`
    likeliest of its step is finished; the search ends once `beams` sequences are finished. Sequences that have not
    stopped by the last step compete as they are. One beam is greedy search.
    """

    beams: int
    length_penalty: float

    def __post_init__(self) -> None:
        if self.beams < 1:
            raise UsageError(f"beams={self.beams} must be at least 1, which is greedy search")
        if not self.length_penalty >= 0:
            raise UsageError(f"length_penalty={self.length_penalty} must be 0 (none) or more")

    @torch.no_grad()
    def search(
        self, step: Step, state: Any, token_B: Int[Tensor, " B"], steps: int, stop: int | None = None
    ) -> Int[Tensor, "B U"]:
        """Returns the U = `steps` tokens after `token`; every place after the first `stop` holds `stop`.

        `state` has read everything before `token`. One beam writes to it; several beams write to copies.
        """
        B, K = len(token_B), self.beams
        first_B1 = torch.arange(0, B * K, K, device=token_B.device)[:, None]
        if K > 1:
            state = select(state, first_B1.expand(B, K).flatten() // K)
        token_N = token_B.repeat_interleave(K)
        # All beams of a sequence are equal at first, so one of them is enough for the first step.
        ended_BK = torch.full((B, K), -torch.inf, device=token_B.device)
        score_BK = ended_BK.index_fill(1, first_B1[:1, 0], 0.0)
        text_BKU = ended_text_BKU = token_B.new_full((B, K, steps), 0 if stop is None else stop)
        for u in range(steps):
            score_BJ, origin_BJ, token_BJ = _extend(score_BK, step(token_N, state))
            text_BJU = _rows(text_BKU, origin_BJ)
            text_BJU[:, :, u] = token_BJ
            if stop is not None:
                fresh_BK = (score_BJ / self._penalty(u + 1)).where(token_BJ == stop, -torch.inf)[:, :K]
                fresh_BK = fresh_BK.where(~_full(ended_BK), -torch.inf)
                ended_BK, best_BK = torch.cat((ended_BK, fresh_BK), dim=1).topk(K)
                ended_text_BKU = _rows(torch.cat((ended_text_BKU, text_BJU[:, :K]), dim=1), best_BK)
                if _full(ended_BK).all():
                    break
                score_BJ = score_BJ.where(token_BJ != stop, -torch.inf)
            score_BK, best_BK = score_BJ.topk(K)
            text_BKU = _rows(text_BJU, best_BK)
            token_N = text_BKU[:, :, u].flatten()
            if K > 1:
                state = select(state, (first_B1 + origin_BJ.gather(1, best_BK)).flatten())
        unended_BK = (score_BK / self._penalty(steps)).where(~_full(ended_BK), -torch.inf)
        best_B1 = torch.cat((ended_BK, unended_BK), dim=1).argmax(dim=1, keepdim=True)
        return _rows(torch.cat((ended_text_BKU, text_BKU), dim=1), best_B1)[:, 0]

    def _penalty(self, tokens: int) -> float:
        return float(((5 + tokens) / 6) ** self.length_penalty)


def _extend(
    score_BK: Float[Tensor, "B K"], logits_NV: Float[Tensor, "N V"]
) -> tuple[Float[Tensor, "B J"], Int[Tensor, "B J"], Int[Tensor, "B J"]]:
    """Returns the likeliest extensions by one token, best first: scores, the beams that they extend, and tokens.

    At most K of them stop, one a beam, so that J = 2·K leave K that go on.
    """
    (B, K), V = score_BK.shape, logits_NV.size(1)
    total_BKV = score_BK[..., None] + torch.log_softmax(logits_NV.float(), dim=-1).view(B, K, V)
    found = total_BKV.flatten(1).topk(min(2, V) * K)
    return found.values, found.indices // V, found.indices % V


def _rows(text_BJU: Tensor, index_BK: Tensor) -> Tensor:
    """Picks K of the J texts of each sequence, in the order of the indexes."""
    return text_BJU.gather(1, index_BK[..., None].expand(-1, -1, text_BJU.size(2)))


def _full(ended_BK: Tensor) -> Tensor:
    """Tells for each sequence whether as many have finished as there are beams, (B, 1)."""
    return (ended_BK > -torch.inf).all(dim=1, keepdim=True)
