"""Stores what the running jobs of a confirmation report: rungs, results and failures, each in one transaction."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from optuna.trial import TrialState

from nas.errors import OutOfReach
from nas.reasons import Reason
from nas.results import Rung
from nas.running.confirmation_plan import Plan
from nas.running.events import (
    Blocked,
    Completed,
    ConfirmationJob,
    Event,
    Failed,
    Interrupted,
    Measured,
    Notice,
    Observer,
    Reached,
    Waiting,
    notice,
)
from nas.study.job_answers import Lease
from nas.study.leases import Leases


@dataclass
class Running:
    """Keeps a job that runs: its lease, and what its row holds so far. `began` is when its measurement began."""

    job: ConfirmationJob
    lease: Lease
    began: float
    metrics: dict[str, float] = field(default_factory=dict)
    rungs: list[Rung] = field(default_factory=list)
    crashes: int = 0


class ConfirmationReports:
    """Takes the reports of one driver's jobs. `forget` is called for a stored result, `release` to put a job back."""

    def __init__(
        self,
        leases: Leases,
        plan: Plan,
        clock: Callable[[], float],
        observer: Observer,
        forget: Callable[[Running], None],
        release: Callable[[Running], None],
    ) -> None:
        self._leases, self._plan, self._clock, self._observer = leases, plan, clock, observer
        self._forget, self._release = forget, release

    def take(self, running: Running, event: Event) -> bool:
        """Stores an event. Returns whether the job goes on. Raises Lost, Kept, and OutOfReach."""
        job = running.job
        if isinstance(event, Notice):
            if isinstance(event, Waiting):
                running.began = self._clock()
            self._observer(notice(event, job.number))
            return True
        match event:
            case Measured(metrics, measurement) if job.does == "block":
                block = {"began": running.began, "hardware": self._plan.hardware, "metrics": dict(metrics)}
                self.finish(running, block | ({"measurement": dict(measurement)} if measurement else {}))
            case Measured(metrics):
                running.metrics |= metrics
                self._leases.note(running.lease, {"metrics": running.metrics})
                return True
            case Reached(rung, checkpoint):
                if self._is_new(running, rung):
                    self._leases.rung(running.lease, rung.step, checkpoint or None, _rungs(running))
                return True
            case Completed(_, metrics) if job.does == "test":
                self.finish(running, {"test": dict(metrics)})
            case Completed(rung, metrics):
                self._complete(running, rung, metrics)
            case Failed(reason, detail):
                self.finish(running, _rungs(running), reason, detail)
            case Interrupted():
                self._release(running)
            case Blocked(message, where, detail, help):
                raise OutOfReach(message, code="disk", where=where, detail=detail, help=help)
        return False

    def _complete(self, running: Running, rung: Rung, metrics: Mapping[str, float]) -> None:
        self._is_new(running, rung)
        running.metrics |= metrics
        wanted = [objective.metric for objective in self._plan.objectives if not objective.means.cheap]
        unknown = [name for name in wanted if not math.isfinite(running.metrics.get(name, math.nan))]
        if unknown:
            self.finish(running, _rungs(running), Reason.NAN, f"not finite: {', '.join(unknown)}")
        else:
            self.finish(running, {**_rungs(running), "metrics": running.metrics})

    def _is_new(self, running: Running, rung: Rung) -> bool:
        """Keeps a rung, and tells it. False for one that an earlier attempt has stored."""
        new = all(known.step != rung.step for known in running.rungs)
        if new:
            running.rungs.append(rung)
            self.tell("rung", running, **asdict(rung))
        return new

    def finish(self, running: Running, attributes: Mapping[str, Any], reason: str = "", detail: str = "") -> None:
        """Ends a job: with its result, or with the reason why it failed."""
        why = {key: value for key, value in (("reason", str(reason)), ("detail", detail[-2000:])) if value}
        state = TrialState.FAIL if reason else TrialState.COMPLETE
        self._leases.tell(running.lease, state, None, trained=not reason, attributes={**attributes, **why})
        self._forget(running)
        metrics = attributes.get("test", attributes.get("metrics", {}))
        self.tell("ended", running, state=state.name, reason=str(reason), detail=detail[-2000:], metrics=metrics)

    def tell(self, what: str, running: Running, **facts: Any) -> None:
        """Tells the observer what happened to a job: begun, rung, ended or released."""
        job = running.job
        seed = None if job.does == "block" else job.seed
        about = {"trial": job.number, "does": job.does, "seed": seed}
        self._observer({"type": "confirmation", "what": what, **about, **facts})


def _rungs(running: Running) -> dict[str, Any]:
    return {"rungs": [asdict(rung) for rung in running.rungs]} if running.rungs else {}
