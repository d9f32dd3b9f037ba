"""Defines confirmations: what came of training a trial again with new seeds, and of measuring it again.

A confirmed trial has retrainings and blocks of measurements. The search's own result is never among them: a search
picks the lucky, so only new seeds tell what an architecture is worth.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nas.rungs import Rung


@dataclass(frozen=True)
class Retraining:
    """Holds one training of the trial with a new seed, to its last step.

    `metrics` are those at the last rung, as a trial has them, and empty where it failed for that `reason`
    (nas.reasons.Reason). `test` holds the metrics on the test split; it is empty until the end of a confirmation, and
    for trials that had left the front by then.
    """

    seed: int
    steps: int
    metrics: Mapping[str, float]
    test: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    rungs: tuple[Rung, ...] = ()

    @property
    def failed(self) -> bool:
        return bool(self.reason)


@dataclass(frozen=True)
class Block:
    """Holds one more measurement of the trial while nothing trains: times with spreads, and the hardware.

    `began` is in Unix seconds by the database's clock. Two blocks of a trial are at least a minute apart. `measurement`
    tells how it was measured, readings included, as a trial's row does (nas.measurement.TimedMetrics).
    """

    began: float
    metrics: Mapping[str, float]
    hardware: str
    measurement: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Confirmation:
    """Holds all that is known of one confirmed trial: its retrainings by steps and seed, its blocks by time."""

    trial: int
    retrainings: tuple[Retraining, ...] = ()
    blocks: tuple[Block, ...] = ()

    @property
    def failures(self) -> int:
        """Returns how many of its trainings failed. An architecture that may fail has lost its place on the front."""
        return sum(retraining.failed for retraining in self.retrainings)

    def of_steps(self, steps: int) -> tuple[Retraining, ...]:
        """Returns the retrainings of that length."""
        return tuple(retraining for retraining in self.retrainings if retraining.steps == steps)

    def on_hardware(self, hardware: str) -> tuple[Block, ...]:
        """Returns the blocks that were measured on that hardware."""
        return tuple(block for block in self.blocks if block.hardware == hardware)


def hardware_name(environment: Mapping[str, Any]) -> str:
    """Names the hardware that an environment describes (nas.measure.environment), by what decides its speed."""
    gpus = [f"{gpu['name']} ({gpu['memory_gib']} GiB)" for gpu in environment.get("gpus") or ()]
    return ", ".join([*gpus, str(environment.get("cpu", "")), f"{environment.get('logical_cores', '?')} cores"])[:200]
