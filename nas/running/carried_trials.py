"""Decides which trials of a study are valid in a changed study file, and makes their rows for the new study.

A trial is taken over when the new study would train it in the same way: the same task, data, training, seed and recipe,
an architecture of the new space (or a baseline), and every objective stored. Its losses stay. Its measured times stay
where hardware and workload are the same; elsewhere the caller measures it anew.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from nas.measure import hardware_id
from nas.measurement import TimedMetrics
from nas.results import State, TrialResult
from nas.running.own_body import same_function
from nas.running.proposer import Proposer
from nas.settings.study_file import StudyFile
from nas.space.architecture_space import Space
from nas.space.parameter_space import Design, Parameters
from nas.space.settings import difference
from nas.study.checked import LIMIT
from nas.study.later_measurement import violations
from nas.study.stored_study import StoredStudy, first_number

TRAINED_ALIKE = ("task", "train", "trial", "search.seed")
FREE = ("train.time_limit", "task.corpus", "task.tokenizer")
"""These may differ: the data are compared by their hashes."""
NEVER_TRAINED, FAILED, UNFINISHED = "never trained", "failed", "not finished"

Measure = Callable[[TrialResult], TimedMetrics]
"""Measures the architecture of a trial on this machine, for the new study."""


@dataclass(frozen=True)
class Carried:
    """Holds the rows for the new study in the order of their numbers, and why the others were left."""

    rows: tuple[FrozenTrial, ...]
    numbers: tuple[int, ...]
    """The numbers that the trials had."""
    left: Mapping[str, int]
    measured: int
    """The number of those measured anew."""


def trained_otherwise(
    stored: StudyFile, data: Mapping[str, Any], file: StudyFile, described: Mapping[str, Any] | None
) -> str:
    """Tells why no trial of the stored study is one of the file's; empty where they are trained alike."""
    for path, old, new in difference(stored.resolved(), file.resolved()):
        alike = not path.startswith(TRAINED_ALIKE) or path.startswith(FREE)
        if not alike and not (path == "trial.body" and same_function(old, new)):
            return f"trained with another {path} (stored {old}, now {new})"
    for name in ("sha256", "tokenizer") if described else ():
        if data.get(name, "") != (described or {}).get(name, ""):
            return "trained on other data"
    return ""


def measured_otherwise(stored: StudyFile, before: Mapping[str, Any], file: StudyFile, now: Mapping[str, Any]) -> bool:
    """Tells whether times of the stored study are no times of the new one: other hardware, or another workload."""
    workloads = (stored.measure, stored.targets) != (file.measure, file.targets)
    return workloads or hardware_id(before) != hardware_id(now)


def carried(study: StoredStudy, file: StudyFile, measure: Measure | None) -> Carried:
    """Takes over every trial that is valid in the file. With `measure`, each of them is measured anew.

    The caller has made sure that the trials were trained alike.
    """
    record, rows = study.record(), {row.number: row for row in study.store.rows()}
    maker, left = _RowMaker(study.name, file), Counter[str]()
    made, numbers = list[FrozenTrial](), list[int]()
    for trial in record.trials:
        if reason := maker.refusal(trial):
            left[reason] += 1
            continue
        if measure is not None:
            found = measure(trial)
            if missing := [o.metric for o in file.objective_list() if o.means.cheap and o.metric not in found.metrics]:
                left[f"without {missing[0]}"] += 1
                continue
            metrics = {**trial.metrics, **found.metrics}
            trial = replace(trial, metrics=metrics, measurement=found.measurement)
        made.append(maker.row(trial, rows[trial.number]))
        numbers.append(trial.number)
    return Carried(tuple(made), tuple(numbers), dict(left), len(made) if measure else 0)


class _RowMaker:
    """Makes the rows of a new study out of trials of an old one."""

    def __init__(self, name: str, file: StudyFile) -> None:
        self.name, self.file, self.space = name, file, file.search_space()
        self.objectives, self.constraints = file.objective_list(), file.constraint_list()
        self.baselines = {design.id for design in file.baseline_designs()}
        self.rates = file.train.learning_rate or ()
        self._proposer = Proposer(self.space, self.objectives, "random", 0, self.rates)
        self._keys = set[tuple[str, float | None]]()

    def refusal(self, trial: TrialResult) -> str:
        """Tells why a trial is not taken over; empty where it is."""
        if trial.state in (State.RUNNING, State.WAITING):
            return UNFINISHED
        if not trial.trained:
            return FAILED if trial.state is State.FAIL else NEVER_TRAINED
        if self._params(trial) is None and trial.architecture_id not in self.baselines:
            return "not in the new space"
        wanted = [o.metric for o in self.objectives if not _at_rungs(trial, o.metric)]
        missing = [metric for metric in wanted if metric not in trial.metrics]
        if missing:
            return f"without {missing[0]}"
        key = (trial.architecture_id, trial.learning_rate)
        if key in self._keys:
            return "a repetition of another"
        self._keys.add(key)
        return ""

    def row(self, trial: TrialResult, old: FrozenTrial) -> FrozenTrial:
        """Returns the trial as a finished row of the new study, judged by its objectives and limits."""
        params, distributions = self._choices(trial)
        over = violations(trial.metrics, self.constraints)
        origin = {"study": self.name, "number": first_number(old)}
        marks: dict[str, Any] = {"metrics": dict(trial.metrics), "taken_from": origin}
        marks |= {"measurement": dict(trial.measurement)} if trial.measurement else {}
        kept = {key: value for key, value in old.user_attrs.items() if key not in ("baseline", "retry_of", "verdict")}
        row = copy(old)
        row.params, row.distributions = params, distributions
        row.user_attrs = kept | marks | ({"baseline": True} if trial.architecture_id in self.baselines else {})
        row.system_attrs = {f"{LIMIT}{name}": violation for name, violation in over.items()}
        complete = trial.state is State.COMPLETE
        row.values = [trial.metrics[o.metric] for o in self.objectives] if complete else None
        row.state = TrialState.COMPLETE if complete else TrialState.PRUNED
        return row

    def _params(self, trial: TrialResult) -> dict[str, Any] | None:
        """Returns the choices of the new space that make the trial; None where none do."""
        design = self._design(trial)
        if isinstance(self.space, Space):
            assert not isinstance(design, Parameters)
            return self.space.params_of(design)
        assert isinstance(design, Parameters)
        given = self.file.space.parameters  # type: ignore[union-attr]  # a space of parameters has them
        return self.space.params_of(design) if design.values.keys() == given.keys() else None

    def _design(self, trial: TrialResult) -> Design:
        return trial.model if trial.architecture else Parameters(trial.parameters)

    def _choices(self, trial: TrialResult) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        params = self._params(trial)
        if params is None:  # a baseline that the space does not hold
            return {}, {}
        rate = {"learning_rate": trial.learning_rate} if len(self.rates) > 1 else {}
        proposal = self._proposer.fixed(params | rate)
        return dict(proposal.params), dict(proposal.distributions)


def _at_rungs(trial: TrialResult, metric: str) -> bool:
    """Tells whether a trial that was stopped at a rung knows that metric from there."""
    return trial.state is State.PRUNED and bool(trial.rungs) and metric in trial.rungs[-1].metrics
