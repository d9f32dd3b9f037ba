"""A trial while it is out: its job, and what its row holds so far."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from nas.results import Constraint, Rung
from nas.search.events import Job


@dataclass
class Flight:
    """`crashes`: workers that died under it."""

    job: Job
    metrics: dict[str, float] = field(default_factory=dict)
    rungs: list[Rung] = field(default_factory=list)
    crashes: int = 0

    @classmethod
    def of_row(cls, number: int, attributes: Mapping[str, Any], seed: int, slot: int) -> Self:
        """The next attempt of a row with these attributes."""
        job = Job(
            number=number,
            attempt=attributes["attempt"],
            seed=seed,
            architecture=attributes["architecture"],
            learning_rate=attributes.get("learning_rate"),
            metrics=attributes.get("metrics", {}),
            slot=slot,
        )
        rungs = [Rung(**rung) for rung in attributes.get("rungs", [])]
        return cls(job, dict(job.metrics), rungs, attributes.get("crashes", 0))

    def keep(self, rung: Rung) -> bool:
        """Whether the rung is new: a resumed trial tells those again that were saved before the row heard of them."""
        new = all(known.step != rung.step for known in self.rungs)
        if new:
            self.rungs.append(rung)
        return new

    def violations(self, constraints: Sequence[Constraint]) -> dict[str, float]:
        """By metric, of those that are known."""
        return {c.metric: c.violation(self.metrics) for c in constraints if c.metric in self.metrics}
