"""Keeps a running trial: its job, and what its row holds so far."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from nas.errors import UsageError
from nas.measurement import at_best_pace
from nas.reasons import Control, Verdict
from nas.results import Constraint, Rung, rungs_of
from nas.running.events import Job
from nas.running.stopping_rule import TrialProgress
from nas.study.job_answers import Lease


@dataclass
class RunningTrial:
    """Keeps a running trial. `crashes` counts the workers that died while running it.

    `verdict` is the decision to end it early, once made; `control` what was judged of a trial that may not end early.
    `measured` tells whether its measurements exist.
    """

    job: Job
    lease: Lease
    metrics: dict[str, float] = field(default_factory=dict)
    rungs: list[Rung] = field(default_factory=list)
    crashes: int = 0
    verdict: Verdict | None = None
    control: Control = field(default_factory=Control)
    baseline: bool = False
    retry: bool = False
    measured: bool = False
    measurement: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of_lease(cls, lease: Lease, seed: int, slot: int) -> Self:
        """Makes the attempt of a trial that the lease is for."""
        attributes = lease.attributes
        job = Job(
            number=lease.number or 0,
            attempt=attributes["attempt"],
            seed=seed,
            architecture=attributes.get("architecture", {}),
            parameters=attributes.get("parameters", {}),
            learning_rate=attributes.get("learning_rate"),
            metrics=attributes.get("metrics", {}),
            slot=slot,
            rungs=rungs_of(attributes),
            before=lease.before,
        )
        return cls(
            job,
            lease,
            dict(job.metrics),
            list(rungs_of(attributes)),
            attributes.get("crashes", 0),
            Verdict.from_stored(attributes),
            Control.from_stored(attributes),
            baseline=attributes.get("baseline", False),
            retry="retry_of" in attributes,
            measured="metrics" in attributes,
            measurement=dict(attributes.get("measurement", {})),
        )

    def progress(self, *, complete: bool = False, feasible: bool = True) -> TrialProgress:
        """Returns the trial as the stopping rule sees it now; while it is judged itself, with its fastest readings."""
        metrics = self.metrics if complete else at_best_pace(self.metrics)
        return TrialProgress(dict(metrics), tuple(self.rungs), complete, feasible)

    def keep(self, rung: Rung) -> bool:
        """Keeps a rung, and tells whether it is new: a resumed trial reports again the rungs that its row may lack."""
        new = all(known.step != rung.step for known in self.rungs)
        if new:
            self.rungs.append(rung)
        return new

    def stored_rungs(self) -> list[dict[str, Any]]:
        """Returns the rungs as the row stores them."""
        return [asdict(rung) for rung in self.rungs]

    def attributes(self) -> dict[str, Any]:
        """Returns what the row stores of its metrics and rungs, where there are any."""
        metrics = {"metrics": self.metrics} if self.measured else {}
        return metrics | ({"rungs": self.stored_rungs()} if self.rungs else {})

    def violations(self, constraints: Sequence[Constraint]) -> dict[str, float]:
        """Returns the violation of each limit whose metric is known."""
        metrics = at_best_pace(self.metrics)
        return {c.metric: c.violation(metrics) for c in constraints if c.metric in metrics}

    def uncertain(self, constraint: Constraint) -> bool:
        """Tells whether that limit awaits another measurement, since it is on a time and other load disturbed this
        one.
        """
        return bool(self.metrics.get("contended")) and constraint.means.cheap and not constraint.means.exact


def unmeasured(metric: str, own: bool) -> UsageError:
    """Returns the error for a metric that has to be known before training, and is not. `own` means a training of the
    user's own, which has to yield it.
    """
    if own:
        text = f"the body told no '{metric}' before training, though it is known then"
        help = (
            f'yield Measured({{"{metric}": ...}}) first; without `cheap = true`, Finished may tell a metric of your own'
        )
    else:
        text = f"'{metric}' cannot be measured on this machine"
        help = "leave it out of objectives and constraints, or run where the hardware counts it"
    return UsageError(text, code="not-measurable", help=help)
