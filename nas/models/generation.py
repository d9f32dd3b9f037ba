"""Continues a text from a prompt, token by token.

Shapes: B batch, T tokens of the prompt, U = T + steps, V vocabulary.
"""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from nas.errors import UsageError
from nas.models.sampling import Sampling


@runtime_checkable
class LanguageModel(Protocol):
    """Describes a model that reads on from a state."""

    context: int

    def new_state(self, batch: int, context: int) -> Any: ...
    def prefill(self, tokens_BT: Tensor, state: Any) -> Tensor: ...


def continue_text(
    model: LanguageModel, tokens_BT: Tensor, steps: int, sampling: Sampling, generator: torch.Generator | None
) -> Tensor:
    """Returns the prompt and `steps` more tokens, (B, U).

    When the context is full, its last half is read again and generation continues from there. A prompt longer than the
    context is read from its last tokens. Raises UsageError without a token to start from.
    """
    B, T = tokens_BT.shape
    if T < 1 or steps < 0:
        raise UsageError(f"cannot generate steps={steps} tokens after a prompt of {T}; give a token to start from")
    tokens_BU = torch.cat((tokens_BT, tokens_BT.new_empty(B, steps)), dim=1)
    state, unread = model.new_state(B, model.context), tokens_BT[:, -model.context :]
    for u in range(T, T + steps):
        if state.length + unread.size(1) > model.context:
            state, unread = model.new_state(B, model.context), tokens_BU[:, u - (model.context + 1) // 2 : u]
        logits_BV = model.prefill(unread, state)[:, -1]
        tokens_BU[:, u] = sampling.pick(logits_BV, generator)
        unread = tokens_BU[:, u : u + 1]
    return tokens_BU
