"""Replays searches whose trials were all trained to their end: what stopping at rungs would have saved and lost.

A recording holds the rungs of one search that ran with `stopping = false` and `skip = false`. The replay hands its
trials to the stopping rule in the order of the search, then in random ones, to one worker and to four. What is *lost*
is the share of the front's hypervolume that the trials which are left no longer dominate.
"""

import heapq
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from nas import files, pareto
from nas.errors import UsageError
from nas.formatting import fixed, percent
from nas.results import Objective, Rung, State, StudyRecord
from nas.running.stopping_rule import StoppingRule, TrialProgress

ORDERS, WORKERS = 20, (1, 4)


class RecordedTrial(TypedDict):
    """Holds the values of the objectives of one trial; `rungs` has [step, metrics] of each, the last one included."""

    baseline: bool
    metrics: dict[str, float]
    rungs: list[tuple[int, dict[str, float]]]


class Recording(TypedDict):
    """Holds a search in which every trial was trained to its end."""

    study: str
    objectives: list[tuple[str, str]]
    trials: list[RecordedTrial]


@dataclass(frozen=True)
class Outcome:
    """Tells what one replay saved and lost, each as a share, and how many members of the front were stopped."""

    saved: float
    lost: float
    stopped: int
    front: int
    front_stopped: int


def record_of(record: StudyRecord) -> Recording:
    """Returns the recording of a stored study. Raises UsageError where trials ended early."""
    early = [t.number for t in record.trials if t.state is State.PRUNED and (t.rungs or t.reason == "skipped")]
    if early:
        text = f"trial {early[0]} of study '{record.name}' ended early"
        help = "record a search with -s search.stopping=false -s search.skip=false"
        raise UsageError(text, code="not-whole", help=help)
    names = [objective.metric for objective in record.objectives]
    trials = [
        RecordedTrial(
            baseline=trial.baseline,
            metrics={name: trial.metrics[name] for name in names},
            rungs=[(r.step, {n: r.metrics[n] for n in names if n in r.metrics}) for r in trial.rungs],
        )
        for trial in record.trials
        if trial.eligible and trial.rungs and trial.values(record.objectives) is not None
    ]
    return Recording(study=record.name, objectives=[(o.metric, o.goal) for o in record.objectives], trials=trials)


def write(recording: Recording, path: Path) -> None:
    """Writes a recording as JSON, one line a trial."""
    trials = ",\n".join(json.dumps(trial, separators=(",", ":")) for trial in recording["trials"])
    head = json.dumps({"study": recording["study"], "objectives": recording["objectives"]})
    files.write_text(path, f'{head[:-1]}, "trials": [\n{trials}\n]}}\n')


def read(path: Path) -> Recording:
    """Reads a recording. Raises UsageError where the file is none."""
    try:
        return TypeAdapter(Recording).validate_python(files.parse_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        help = "nas bench stopping --record STUDY   makes one"
        raise UsageError("this is no recording", where=str(path), detail=str(error)[:200], help=help) from error


def replay(recording: Recording, order: Sequence[int], workers: int) -> Outcome:
    """Hands the trials to the rule in that order, so many side by side, and all equally fast."""
    objectives = [Objective(metric, "min" if goal == "min" else "max") for metric, goal in recording["objectives"]]
    trials = [recording["trials"][i] for i in order]
    rule, stopped, spent, waiting = StoppingRule(objectives, ()), set[int](), 0, list(range(len(trials)))
    running: list[tuple[int, int, int]] = []

    def start(now: int) -> None:
        if waiting:
            number = waiting.pop(0)
            heapq.heappush(running, (now + trials[number]["rungs"][0][0], number, 1))

    for _ in range(workers):
        start(0)
    while running:
        now, number, reached = heapq.heappop(running)
        trial = trials[number]
        steps = [step for step, _ in trial["rungs"]]
        spent += steps[reached - 1] - (steps[reached - 2] if reached > 1 else 0)
        rule.update(number, _progress(trial, reached, objectives))
        if reached < len(steps) and (trial["baseline"] or rule.verdict(number) is None):
            heapq.heappush(running, (now + steps[reached] - steps[reached - 1], number, reached + 1))
            continue
        if reached < len(steps):
            stopped.add(number)
        start(now)
    return _outcome(trials, objectives, stopped, 1 - spent / sum(trial["rungs"][-1][0] for trial in trials))


def _progress(trial: RecordedTrial, reached: int, objectives: Sequence[Objective]) -> TrialProgress:
    """Returns a trial at that rung: its trained objectives are known once it is complete."""
    complete = reached == len(trial["rungs"])
    known = {o.metric for o in objectives if complete or o.means.cheap}
    rungs = [Rung(step, float(step), metrics) for step, metrics in trial["rungs"][:reached]]
    return TrialProgress({name: trial["metrics"][name] for name in known}, rungs, complete)


def _outcome(
    trials: Sequence[RecordedTrial], objectives: Sequence[Objective], stopped: set[int], saved: float
) -> Outcome:
    values, goals = [[t["metrics"][o.metric] for o in objectives] for t in trials], [o.goal for o in objectives]
    reference, front = pareto.reference_point(values, goals), pareto.front(values, goals)
    left = [value for number, value in enumerate(values) if number not in stopped]
    lost = 1 - pareto.hypervolume(left, goals, reference) / pareto.hypervolume(values, goals, reference)
    return Outcome(saved, max(lost, 0.0), len(stopped), len(front), len(stopped & set(front)))


def judge(recording: Recording, orders: int = ORDERS) -> dict[str, Any]:
    """Replays a recording in its own order and in random ones, which do not depend on anything but their number."""
    own = list(range(len(recording["trials"])))
    shuffled = [random.Random(seed).sample(own, len(own)) for seed in range(orders)]
    every = [replay(recording, order, workers) for workers in WORKERS for order in (own, *shuffled)]
    return {
        "study": recording["study"],
        "trials": len(own),
        "as_recorded": asdict(replay(recording, own, 1)),
        "replays": len(every),
        "saved": mean(each.saved for each in every),
        "lost": {"mean": mean(each.lost for each in every), "worst": max(each.lost for each in every)},
        "front": every[0].front,
        "front_stopped": {
            "mean": mean(each.front_stopped for each in every),
            "worst": max(each.front_stopped for each in every),
        },
    }


def sentence(told: Mapping[str, Any]) -> str:
    """Tells what `judge` found in one line."""
    lost, members = told["lost"], told["front_stopped"]
    return (
        f"{told['study']}: {told['trials']} trials, {percent(told['saved'])} of training saved, "
        f"{percent(lost['mean'], 2)} of the hypervolume lost (worst of {told['replays']} replays "
        f"{percent(lost['worst'], 1)}), {fixed(members['mean'], 1)} of {told['front']} front members stopped "
        f"(worst {members['worst']})"
    )
