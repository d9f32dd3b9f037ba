"""Sums up the rows of `nas bench attention`: how time grows with the context, and ratios to softmax attention."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

Row = Mapping[str, Any]
"""One kind at one context: its `kind`, its `context`, and figures by name; None where one is missing."""
Ratios = dict[str, float]

OPERATIONS = ("forward", "training", "decode")
FIT_FROM = 1024
"""The context from which on time is fitted; below it, what does not depend on the context weighs too much."""
REFERENCE = "softmax"
SHORT = 512
"""The context of the training cost over softmax: one that people train at, below which kinds of linear cost gain."""


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Returns exponents, ratios to softmax and flatness of decoding, where these rows have what they need.

    Keys: exponents.KIND.OPERATION, training_over_softmax_512.KIND, decode_flatness.KIND,
    speedup_over_softmax.KIND."CONTEXT".OPERATION.
    """
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    contexts = sorted({row["context"] for row in rows})
    curves = {(kind, operation): curve(rows, kind, operation) for kind in kinds for operation in OPERATIONS}
    reference = {operation: curves.get((REFERENCE, operation), {}) for operation in OPERATIONS}

    def speedups(kind: str, context: int) -> Ratios:
        times = {operation: curves[kind, operation].get(context) for operation in OPERATIONS}
        found = {operation: (reference[operation].get(context), ms) for operation, ms in times.items()}
        return {operation: theirs / ms for operation, (theirs, ms) in found.items() if theirs and ms}

    return {
        "exponents": _present({kind: _exponents(curves, kind) for kind in kinds}),
        f"training_over_softmax_{SHORT}": {
            kind: 1 / speed["training"] for kind in kinds if "training" in (speed := speedups(kind, SHORT))
        },
        "decode_flatness": {
            kind: ms[contexts[-1]] / ms[contexts[0]]
            for kind in kinds
            if len(contexts) > 1 and {contexts[0], contexts[-1]} <= (ms := curves[kind, "decode"]).keys()
        },
        "speedup_over_softmax": _present(
            {kind: _present({str(c): speedups(kind, c) for c in contexts}) for kind in kinds if kind != REFERENCE}
        ),
    }


def curve(rows: Iterable[Row], kind: str, operation: str) -> dict[int, float]:
    """Maps contexts to median milliseconds."""
    own = [row for row in rows if row["kind"] == kind]
    return {row["context"]: row[f"{operation}_ms"] for row in own if row[f"{operation}_ms"] is not None}


def exponent(ms: Mapping[int, float]) -> float:
    """Fits p of time ∝ context^p: the slope of the least-squares line through the logarithms of both."""
    slope, _ = np.polyfit(np.log(list(ms)), np.log(list(ms.values())), 1)
    return float(slope)


def _exponents(curves: Mapping[tuple[str, str], dict[int, float]], kind: str) -> Ratios:
    """Fits the exponent of each operation that was timed at two contexts that count."""
    found = {}
    for operation in OPERATIONS:
        long = {context: ms for context, ms in curves[kind, operation].items() if context >= FIT_FROM}
        if len(long) > 1:
            found[operation] = exponent(long)
    return found


def _present(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value}
