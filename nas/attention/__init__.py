"""Holds the attention mechanisms: one file a kind, and one table, `MODULES`.

A new kind needs a spec in `nas.kinds`, a module in a file here and a line in `MODULES`. The contract tests, the
benchmarks and the documentation go through the table.
"""

from typing import Any

from nas.attention.additive import AdditiveAttention
from nas.attention.base import Attention
from nas.attention.block_sparse import BlockSparseAttention
from nas.attention.cosine import CosineAttention
from nas.attention.differential import DifferentialAttention
from nas.attention.gated_delta import GatedDeltaAttention
from nas.attention.gated_linear import GatedLinearAttention
from nas.attention.latent import LatentAttention
from nas.attention.linear import LinearAttention
from nas.attention.linformer import LinformerAttention
from nas.attention.lstm import LstmAttention
from nas.attention.none import EmptyAttention
from nas.attention.performer import PerformerAttention
from nas.attention.retention import RetentionAttention
from nas.attention.softmax import SoftmaxAttention
from nas.attention.state import Memory, State
from nas.attention.window import WindowAttention
from nas.errors import InvalidArchitecture, UsageError
from nas.kinds import (
    Additive,
    BlockSparse,
    Cosine,
    Differential,
    GatedDelta,
    GatedLinear,
    Kind,
    Latent,
    Linear,
    Linformer,
    Lstm,
    NoAttention,
    Performer,
    Position,
    Retention,
    Softmax,
    Window,
)

__all__ = ["MODULES", "Attention", "Memory", "State", "build"]

MODULES: dict[type[Kind], type[Attention[Any]]] = {
    Softmax: SoftmaxAttention,
    Latent: LatentAttention,
    Cosine: CosineAttention,
    Additive: AdditiveAttention,
    Differential: DifferentialAttention,
    Window: WindowAttention,
    BlockSparse: BlockSparseAttention,
    Linear: LinearAttention,
    Performer: PerformerAttention,
    Linformer: LinformerAttention,
    Retention: RetentionAttention,
    GatedLinear: GatedLinearAttention,
    GatedDelta: GatedDeltaAttention,
    NoAttention: EmptyAttention,
    Lstm: LstmAttention,
}


def build(
    spec: Kind, hidden: int, context: int, causal: bool = True, position: Position | None = None
) -> Attention[Any]:
    """Builds the module of a spec for sequences of up to `context` tokens.

    `position` says how the module knows the order of tokens; the default is the kind's own. The model adds learned and
    sinusoidal positions to its input, so they have no part here. Raises InvalidArchitecture for a spec that does not
    fit `hidden`, `causal` or `position`, and UsageError for a context below 1.
    """
    if problem := spec.problem(hidden, position):
        text, fix = problem
        raise InvalidArchitecture(f"attention.{text}; {fix}")
    if type(spec) not in MODULES:
        kinds = ", ".join(kind.__name__ for kind in MODULES)
        raise InvalidArchitecture(f"attention={spec!r} has no module; use one of {kinds}")
    if causal and "causal" not in spec.forms:
        raise InvalidArchitecture(f"attention.kind={spec.kind!r} cannot be causal; use causal=False")
    if not causal and not {"bidirectional", "cross"} & set(spec.forms):
        raise InvalidArchitecture(f"attention.kind={spec.kind!r} is only causal; use causal=True")
    if context < 1:
        raise UsageError(f"context={context} must be at least 1 token")
    return MODULES[type(spec)](spec, hidden, context, causal, position or spec.positions[0])
