"""Measures trials again when nothing trains: the front, and trials that a disturbed measurement may have kept from it.

A measurement that other load disturbed decides nothing for good. Where it puts a trial over a limit, or behind others,
the trial is measured again here. The new measurement replaces the stored one (`remeasured:NUMBER`), unless the stored
one was better.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from nas import pareto
from nas.measure.latency import MeasuringStopped
from nas.measurement import TimedMetrics, at_best_pace
from nas.results import METRICS, State, StudyRecord, TrialResult
from nas.running.events import Observer, Waiting, waiting
from nas.running.measuring import LoneMeasurement
from nas.settings.target_settings import base_of, is_timed
from nas.study.checked import REMEASURED
from nas.study.stored_study import StoredStudy

MEMBER_SECONDS = 2.0
"""About so long a trial is measured. A measurement that is still disturbed then is kept as `contended`."""
DEVICE_SECONDS = 30.0
"""The seconds for which a device that another measurement has is awaited, for each trial."""
COUNTED = (
    "peak_inference_mib",
    "weights_mib",
    "params",
    "flops_per_token",
    "decode_state_kib",
    "peak_training_mib",
)
"""These metrics were counted before the training, and are not counted again: they would be the same."""

Measurer = Callable[[TrialResult], LoneMeasurement]
Keep = Callable[[int, TimedMetrics], None]
"""It stores a later measurement of the trial of that number."""


def measure_again(
    study: StoredStudy,
    measurer: Measurer,
    keep: Keep,
    observer: Observer,
    should_stop: Callable[[], bool],
    clock: Callable[[], float] = time.time,
) -> None:
    """Measures until every trial concerned has such a measurement or was tried in this launch, or `should_stop` says
    so.
    """
    tried: set[int] = set()
    while left := _concerned(study.record(), _settled(study) | tried):
        observer(waiting("front"))
        for i, trial in enumerate(left):
            tried.add(trial.number)
            found = _measured(measurer(trial), trial, observer, should_stop, clock)
            if found is None:
                if should_stop():
                    return
                continue
            kept = _is_better(found.metrics, trial)
            if kept:
                keep(trial.number, found)
            told = {"trial": trial.number, "metrics": dict(found.metrics), "kept": kept, "left": len(left) - i - 1}
            observer({"type": "remeasured", **told})


def _measured(
    measurement: LoneMeasurement,
    trial: TrialResult,
    observer: Observer,
    should_stop: Callable[[], bool],
    clock: Callable[[], float],
) -> TimedMetrics | None:
    """Measures one trial. None when the device was not free in time, or the search is to stop."""
    started = clock()
    while not should_stop():
        try:
            found = measurement.step()
        except MeasuringStopped:
            break
        if not isinstance(found, Waiting):
            return found
        observer(waiting(found.what, trial.number, found.since))
        if found.what == "device" and clock() - started > DEVICE_SECONDS:
            break
    return None


def _settled(study: StoredStudy) -> set[int]:
    """Returns the trials with a later measurement that nothing disturbed."""
    later = {k.removeprefix(REMEASURED): v for k, v in study.store.attributes().items() if k.startswith(REMEASURED)}
    return {int(number) for number, metrics in later.items() if not metrics.get("contended")}


def _concerned(record: StudyRecord, known: set[int]) -> list[TrialResult]:
    """Returns the front, where an objective is a measured time, and the trials that only a disturbed time may keep from
    it.
    """
    found = list(pareto.front_of(record)) if _timed(record.objectives) else []
    found += undecided(record)
    unique = {trial.number: trial for trial in found if trial.number not in known}
    return list(unique.values())


def undecided(record: StudyRecord) -> list[TrialResult]:
    """Trials whose disturbed times alone may keep them from the front: a later measurement may still put them there."""
    if not (_timed(record.constraints) or _timed(record.objectives)):
        return []
    hopeful = replace(record, trials=tuple(map(_hopeful, record.trials)))
    front = {trial.number for trial in pareto.front_of(hopeful)}
    return [trial for trial in record.trials if trial.contended and trial.number in front]


def _timed(wanted: Iterable[Any]) -> bool:
    """Tells whether any of these objectives or limits is on a time that is measured here."""
    return any(is_timed(each.metric) for each in wanted)


def _hopeful(trial: TrialResult) -> TrialResult:
    """Returns the trial as an undisturbed measurement might show it: with its fastest readings, within all limits on
    times.
    """
    if not trial.contended or trial.state is not State.COMPLETE:
        return trial
    noisy = {name for name in trial.violations if (base := METRICS.get(base_of(name))) and not base.exact}
    sound = {name: violation for name, violation in trial.violations.items() if name not in noisy}
    return replace(trial, metrics=at_best_pace(trial.metrics), violations=sound)


def _is_better(metrics: Mapping[str, float], trial: TrialResult) -> bool:
    """Tells whether a measurement beats another: an undisturbed one does; of two disturbed ones, that with the faster
    readings.
    """
    if not metrics["contended"] or not trial.contended:
        return not metrics["contended"]
    now, before = at_best_pace(metrics), at_best_pace(trial.metrics)
    ratios = [now[name] / before[name] for name in ("prefill_ms", "decode_ms_per_token") if before.get(name)]
    return sum(ratios) < len(ratios)
