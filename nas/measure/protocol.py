"""Defines how a time is measured, as an object that is stored with every result."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Runtime = Literal["eager", "compile"]
CLOCK = "perf_counter_ns around one call, the device synchronised before and after"
WARM_UP = "batches of 5 rounds until a batch is not 3 % faster than the one before, at most 20"


@dataclass(frozen=True)
class LatencyProtocol:
    """Describes what was timed, and how.

    The workload: `batch` sequences; `prompt` tokens are read at once and `generated` tokens written one by one.
    `rounds` says which tokens a round times. The stopping rule: at least `least_rounds` at the machine's full pace,
    until the interval of each median is within `precision` of it (None: no more than those), but for about `seconds`
    and `most_rounds` at most.
    """

    version: int
    device: str
    dtype: str
    threads: int
    runtime: Runtime
    batch: int
    prompt: int
    generated: int
    rounds: str
    least_rounds: int
    most_rounds: int
    precision: float | None
    seconds: float
    clock: str = CLOCK
    warm_up: str = WARM_UP

    def stored(self) -> dict[str, Any]:
        """Returns it as plain data."""
        return asdict(self)
