"""Computes softmax attention to few keys a query: each block of queries gets its keys side by side and sees no others.

Shapes: B batch, T tokens, H heads, K heads of keys and values, E head size, N blocks of b queries, r blocks in reach of
each, R = r·b keys gathered, G leading tokens, S = G + R; n blocks of one call, m their masks (n, or 1 for all).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.attention.alibi import Alibi
from nas.attention.dot_product import attend

Rule = Callable[[Tensor, Tensor], Tensor]
"""Maps positions of queries and keys to who sees whom, elementwise. Hashable, and equal to a rule that rules alike."""


@dataclass(frozen=True)
class Pattern:
    """Says with `sees` which keys a query sees, and with the other fields where those keys are.

    The keys of a block of `block` queries lie in the blocks at the distances `reach` from it (in order), or are among
    the `leading` tokens of the sequence. Where all of `reach` exists, behind the leading tokens, blocks are alike: who
    sees whom depends on distances and on places in the block.
    """

    sees: Rule
    block: int
    reach: tuple[int, ...]
    leading: int = 0

    @property
    def keys(self) -> int:
        """Counts the keys that a block is given."""
        return self.leading + len(self.reach) * self.block

    def runs(self, tokens: int, base: int) -> tuple[int, int, int]:
        """Returns the start and the end of the blocks that are alike, and the number of all blocks.

        The blocks hold `tokens` tokens from position `base` on.
        """
        blocks = -(-tokens // self.block)
        start = min(blocks, -(-max(0, self.leading - base) // self.block) - self.reach[0])
        # With nothing in reach behind a block, it makes no difference that the last block is not full.
        end = tokens // self.block - self.reach[-1] if self.reach[-1] else blocks
        return start, max(start, end), blocks


class Gathered(nn.Module):
    """y = softmax(q kᵀ / √E + bias) v over what the pattern shows, in time and memory O(T · keys of the pattern)."""

    offset_R: Tensor

    def __init__(self, pattern: Pattern) -> None:
        super().__init__()
        self.pattern = pattern
        offset_rb = torch.tensor(pattern.reach)[:, None] * pattern.block + torch.arange(pattern.block)
        self.register_buffer("offset_R", offset_rb.flatten(), persistent=False)

    def forward(
        self,
        q_BTHE: Tensor,
        k_BTKE: Tensor,
        v_BTKE: Tensor,
        alibi: Alibi | None = None,
        padding_BT: Tensor | None = None,
        base: int = 0,
        leading: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Returns (B, T, H·E) for tokens at the positions from `base` on.

        `leading` holds keys and values of leading tokens, (B, G, K, E); by default they are the first of the given
        tokens.
        """
        T, G = q_BTHE.size(1), self.pattern.leading
        leading_k_BGKE, leading_v_BGKE = leading or (k_BTKE[:, :G], v_BTKE[:, :G])
        q_BNbHE = self._blocks(q_BTHE, 0, 0)
        k_BNSKE, v_BNSKE = self._gather(k_BTKE, leading_k_BGKE), self._gather(v_BTKE, leading_v_BGKE)
        hidden_BNS = None if padding_BT is None else self._gather(padding_BT, padding_BT[:, :G])
        start, end, blocks = self.pattern.runs(T, base)
        if alibi is not None and G:  # leading tokens stand at a different distance from every block
            start = end = blocks
        y = []
        for first, last, masks in ((0, start, start), (start, end, 1), (end, blocks, blocks - end)):
            if first < last:
                run = slice(first, last)
                sight = self._sight(first, masks, base, T, leading_k_BGKE.size(1))
                hidden_BnS = None if hidden_BNS is None else hidden_BNS[:, run]
                y.append(_attend(q_BNbHE[:, run], k_BNSKE[:, run], v_BNSKE[:, run], hidden_BnS, sight, alibi))
        return torch.cat(y, dim=1)[:, :T]

    def _gather(self, tokens_BT: Tensor, leading_BG: Tensor) -> Tensor:
        """Returns the leading tokens and those in reach of each block, (B, N, S, ...), zeros outside the text."""
        reach = self.pattern.reach
        blocks_BNb = self._blocks(tokens_BT, -reach[0], reach[-1])
        blocks = blocks_BNb.size(1) + reach[0] - reach[-1]
        if reach == tuple(range(reach[0], reach[-1] + 1)):
            # This is a view: neighbouring blocks share the memory of what both can reach.
            near_BNR = blocks_BNb.unfold(1, len(reach), 1).movedim(-1, 2).flatten(2, 3)
        else:
            reach_r = self.offset_R[:: self.pattern.block] // self.pattern.block - reach[0]
            index_Nr = torch.arange(blocks, device=reach_r.device)[:, None] + reach_r
            near_BRb = blocks_BNb.index_select(1, index_Nr.flatten())
            near_BNR = near_BRb.view(len(tokens_BT), blocks, -1, *tokens_BT.shape[2:])
        if not leading_BG.size(1):
            return near_BNR
        ahead_BNG = leading_BG[:, None].expand(-1, blocks, *leading_BG.shape[1:])
        return torch.cat((ahead_BNG, near_BNR), dim=2)

    def _blocks(self, tokens_BT: Tensor, before: int, behind: int) -> Tensor:
        """Returns the tokens in blocks, (B, N, b, ...), with so many empty tokens around them."""
        b, T = self.pattern.block, tokens_BT.size(1)
        around = (0, 0) * (tokens_BT.dim() - 2) + (before * b, behind * b + -T % b)
        return F.pad(tokens_BT, around).view(len(tokens_BT), -1, b, *tokens_BT.shape[2:])

    def _sight(self, first: int, blocks: int, base: int, tokens: int, leading: int) -> tuple[Tensor, Tensor, Tensor]:
        """Returns positions of queries (m, b) and keys (m, S), and who sees whom (m, b, S), from block `first` on."""
        device, b = self.offset_R.device, self.pattern.block
        place_b, ahead_G = torch.arange(b, device=device), torch.arange(leading, device=device)
        start_m1 = base + torch.arange(first, first + blocks, device=device)[:, None] * b
        near_mR = start_m1 + self.offset_R
        # A leading token that is also in the block's reach must not count twice.
        once_mG = ahead_G < near_mR[:, :1].clamp(min=base)
        real_mS = torch.cat((once_mG, (near_mR >= base) & (near_mR < base + tokens)), dim=1)
        query_mb, key_mS = start_m1 + place_b, torch.cat((ahead_G.expand(blocks, -1), near_mR), dim=1)
        return query_mb, key_mS, self.pattern.sees(query_mb[..., None], key_mS[:, None]) & real_mS[:, None]


def _attend(
    q_BnbHE: Tensor,
    k_BnSKE: Tensor,
    v_BnSKE: Tensor,
    hidden_BnS: Tensor | None,
    sight: tuple[Tensor, Tensor, Tensor],
    alibi: Alibi | None,
) -> Tensor:
    """Returns (B, n·b, H·E); blocks take the place of the batch."""
    B, n, b = q_BnbHE.shape[:3]
    query_mb, key_mS, visible_mbS = sight
    copies = 1 if len(query_mb) == 1 else B
    if hidden_BnS is None:
        visible = visible_mbS.repeat(copies, 1, 1)
    else:
        visible = (visible_mbS & ~hidden_BnS[:, :, None]).flatten(0, 1)
    bias = None if alibi is None else alibi(query_mb, key_mS).repeat(copies, 1, 1, 1)
    q, k, v = (tensor.flatten(0, 1) for tensor in (q_BnbHE, k_BnSKE, v_BnSKE))
    return attend(q, k, v, visible=visible[:, None], bias=bias).reshape(B, n * b, -1)
