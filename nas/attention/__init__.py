"""Attention mechanisms: one file a kind, one table.

To add a kind: a spec in `nas.architecture`, a module in a file here, a line in `MODULES`. The contract tests, the
benchmarks and the documentation go through the table.
"""

from typing import Any

from nas.architecture import Cosine, Headed, Linear, Softmax, Window
from nas.attention.base import Attention
from nas.attention.cosine import CosineAttention
from nas.attention.linear import LinearAttention
from nas.attention.softmax import SoftmaxAttention
from nas.attention.state import State
from nas.attention.window import WindowAttention
from nas.errors import InvalidArchitecture, UsageError

__all__ = ["MODULES", "Attention", "State", "build"]

MODULES: dict[type[Headed], type[Attention[Any]]] = {
    Softmax: SoftmaxAttention,
    Cosine: CosineAttention,
    Window: WindowAttention,
    Linear: LinearAttention,
}


def build(spec: Headed, hidden: int, context: int, causal: bool = True) -> Attention[Any]:
    """The module of a spec, for sequences of up to `context` tokens. Raises InvalidArchitecture when it cannot be."""
    if problem := spec.problem(hidden):
        text, fix = problem
        raise InvalidArchitecture(f"attention.{text}; {fix}")
    if type(spec) not in MODULES:
        kinds = ", ".join(kind.__name__ for kind in MODULES)
        raise InvalidArchitecture(f"attention={spec!r} has no module; use one of {kinds}")
    if context < 1:
        raise UsageError(f"context={context} must be at least 1 token")
    return MODULES[type(spec)](spec, hidden, context, causal)
