"""Checks the two rules that save training, by the trials that they may not end."""

from nas import pareto
from nas.formatting import percent
from nas.report.effort import PROMISE, BoundCheck
from nas.report.health.check import Check, Verdict, beyond, share_interval
from nas.report.words import listed, plural
from nas.results import State, StudyRecord, TrialResult

FEWEST_ENDED, FEWEST_BOUNDS = 10, 50
"""So many trials that a rule would have ended, and so many bounds, allow to say that all is well."""
SURELY = 0.05
"""A promise counts as broken where keeping it would give such counts less often than this."""


def stopping(record: StudyRecord) -> Check:
    """Tells how many controls the stopping rule would have ended, and how many of these are on the front."""
    judged = [trial for trial in record.trials if trial.control.stop is not None and trial.state is State.COMPLETE]
    ended = [trial for trial in judged if trial.control.stop]
    lost = _on_front(record, ended)
    numbers = {"controls": len(judged), "ended": len(ended), "on_front": [trial.number for trial in lost]}
    if not _is_on(record, "stopping"):
        return Check("stopping", Verdict.UNKNOWN, "Stopping at rungs was switched off.", numbers)
    told = (
        f"Of {plural(len(judged), 'trial')} that may not be stopped (one in ten, and baselines), the rule would have "
        f"stopped {len(ended)}"
    )
    if lost:
        verb = "is" if len(lost) == 1 else "are"
        text = f"{told}; {_numbers(lost)} {verb} on the front. search.stopping = false trains all to the end."
        return Check("stopping", Verdict.LOOK, text, numbers)
    most = percent(share_interval(0, len(ended)).high)
    if len(ended) < FEWEST_ENDED:
        text = f"{told}, none of them on the front. That is too few to tell: {FEWEST_ENDED} are needed."
        return Check("stopping", Verdict.UNKNOWN, text, numbers)
    return Check(
        "stopping", Verdict.OK, f"{told}, none of them on the front (of such trials, at most {most}).", numbers
    )


def skipping(record: StudyRecord) -> Check:
    """Tells how often trials were better than their bounds, and what became of those that would have been skipped."""
    bounds = BoundCheck.of(record)
    controls = [trial for trial in record.trials if trial.control.skip and trial.state is State.COMPLETE]
    lost = _on_front(record, controls)
    numbers = {
        "bounds": bounds.trials,
        "wrong": bounds.missed,
        "promised": PROMISE,
        "controls": len(controls),
        "on_front": [trial.number for trial in lost],
    }
    if not _is_on(record, "skip"):
        return Check("skipping", Verdict.UNKNOWN, "Skipping was switched off.", numbers)
    if not bounds.trials:
        return Check("skipping", Verdict.UNKNOWN, "No trial with a bound was trained to its end.", numbers)
    interval = share_interval(bounds.missed, bounds.trials)
    told = (
        f"{bounds.missed} of {plural(bounds.trials, 'bound')} were wrong (95 % interval {percent(interval.low)} to "
        f"{percent(interval.high)}; at most {percent(PROMISE)} is promised). Of trials that would have been skipped, "
        f"{len(controls)} were trained as controls"
    )
    if lost:
        text = f"{told}: {_numbers(lost)} {'is' if len(lost) == 1 else 'are'} on the front."
        return Check("skipping", Verdict.LOOK, text, numbers)
    told = f"{told}, none of them on the front." if controls else f"{told}."
    if beyond(bounds.missed, bounds.trials, PROMISE * bounds.objectives) < SURELY:
        return Check("skipping", Verdict.LOOK, f"{told} More are wrong than promised.", numbers)
    if bounds.trials < FEWEST_BOUNDS:
        text = f"{told} That is too few to tell: {FEWEST_BOUNDS} bounds are needed."
        return Check("skipping", Verdict.UNKNOWN, text, numbers)
    return Check("skipping", Verdict.OK, told, numbers)


def _is_on(record: StudyRecord, rule: str) -> bool:
    return bool(record.settings.get("search", {}).get(rule, True))


def _on_front(record: StudyRecord, trials: list[TrialResult]) -> list[TrialResult]:
    members = {trial.number for trial in pareto.front_of(record)} if trials else set()
    return [trial for trial in trials if trial.number in members]


def _numbers(trials: list[TrialResult]) -> str:
    noun = "trial" if len(trials) == 1 else "trials"
    return f"{noun} {listed([str(trial.number) for trial in trials])}"
