"""Measures once more, when nothing trains: the front, and what a disturbed measurement may have kept from it.

A measurement that others disturbed decides nothing for good. A trial that it puts over a limit, or behind others, is
measured again here; what comes out replaces what was stored (`remeasured:NUMBER`), unless that was the better one.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from nas import pareto
from nas.measurement import at_best_pace
from nas.results import METRICS, State, StudyRecord, TrialResult
from nas.running.coordinator import Observer
from nas.running.events import Waiting, waiting
from nas.running.measuring import LoneMeasurement
from nas.study.checked import REMEASURED
from nas.study.stored_study import StoredStudy

MEMBER_SECONDS = 30.0
"""So long a quiet machine is waited for, for each trial. What is disturbed until then is kept as `contended`."""

Measurer = Callable[[TrialResult], LoneMeasurement]


def measure_again(
    study: StoredStudy,
    measurer: Measurer,
    observer: Observer,
    should_stop: Callable[[], bool],
    clock: Callable[[], float] = time.time,
) -> None:
    """Until every trial concerned has such a measurement, or was tried in this launch, or `should_stop` says so."""
    tried: set[int] = set()
    while left := _concerned(study.record(), _settled(study) | tried):
        observer(waiting("front"))
        for i, trial in enumerate(left):
            tried.add(trial.number)
            metrics = _measured(measurer(trial), trial, observer, should_stop, clock)
            if metrics is None:
                if should_stop():
                    return
                continue
            kept = _is_better(metrics, trial)
            if kept:
                study.remeasured(trial.number, metrics)
            told = {"trial": trial.number, "metrics": dict(metrics), "kept": kept, "left": len(left) - i - 1}
            observer({"type": "remeasured", **told})


def _measured(
    measurement: LoneMeasurement,
    trial: TrialResult,
    observer: Observer,
    should_stop: Callable[[], bool],
    clock: Callable[[], float],
) -> Mapping[str, float] | None:
    """Measures a member of the front; None when the device was not to be had in time, or the search is to stop."""
    started = clock()
    while not should_stop():
        found = measurement.step()
        if not isinstance(found, Waiting):
            return found
        observer(waiting(found.what, trial.number, found.since))
        if found.what == "device" and clock() - started > MEMBER_SECONDS:
            break
    return None


def _settled(study: StoredStudy) -> set[int]:
    """Trials with a later measurement that nobody disturbed."""
    later = {k.removeprefix(REMEASURED): v for k, v in study.store.attributes().items() if k.startswith(REMEASURED)}
    return {int(number) for number, metrics in later.items() if not metrics.get("contended")}


def _concerned(record: StudyRecord, known: set[int]) -> list[TrialResult]:
    """The front, where it is drawn over measured times; and what disturbed times alone may keep from it."""
    found = list(pareto.front_of(record)) if _timed(record.objectives) else []
    hopeful = replace(record, trials=tuple(map(_hopeful, record.trials)))
    if _timed(record.constraints) or _timed(record.objectives):
        front = {trial.number for trial in pareto.front_of(hopeful)}
        found += [t for t in record.trials if t.contended and t.number in front]
    unique = {trial.number: trial for trial in found if trial.number not in known}
    return list(unique.values())


def _timed(wanted: Iterable[Any]) -> bool:
    """Tells whether any of these objectives or limits is on a time that is measured here."""
    return any(each.metric in METRICS and each.means.cheap and not each.means.exact for each in wanted)


def _hopeful(trial: TrialResult) -> TrialResult:
    """The trial as an undisturbed measurement may show it: with its fastest readings, within all limits on times."""
    if not trial.contended or trial.state is not State.COMPLETE:
        return trial
    sound = {name: v for name, v in trial.violations.items() if name not in METRICS or METRICS[name].exact}
    return replace(trial, metrics=at_best_pace(trial.metrics), violations=sound)


def _is_better(metrics: Mapping[str, float], trial: TrialResult) -> bool:
    """An undisturbed measurement is; of two disturbed ones, the one whose fastest readings are faster."""
    if not metrics["contended"] or not trial.contended:
        return not metrics["contended"]
    now, before = at_best_pace(metrics), at_best_pace(trial.metrics)
    ratios = [now[name] / before[name] for name in ("prefill_ms", "decode_ms_per_token") if before.get(name)]
    return sum(ratios) < len(ratios)
