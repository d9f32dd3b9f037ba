"""Trials with what a test needs and nothing else."""

from collections.abc import Sequence
from typing import Any

from nas.architecture import Architecture
from nas.results import Objective, Rung, State, StudyRecord, TrialResult

MODEL = Architecture.model_validate({"hidden": 32, "blocks": [{"attention": {"kind": "softmax", "heads": 1}}]})
OBJECTIVES = (Objective("val_loss", "min"), Objective("val_accuracy", "max"), Objective("params", "min"))
STEPS = 200


def trial(number: int, state: State = State.COMPLETE, **facts: Any) -> TrialResult:
    return TrialResult(number, state, MODEL.id, MODEL.canonical(), **facts)


def stopped(number: int, *reached: tuple[int, float], **facts: Any) -> TrialResult:
    """At the last of these (step, seconds)."""
    rungs = tuple(Rung(step, seconds, {"val_loss": 3.0}) for step, seconds in reached)
    return trial(number, State.PRUNED, rungs=rungs, **{"reason": "dominated", **facts})


def study(
    trials: Sequence[TrialResult], objectives: Sequence[Objective] = OBJECTIVES, steps: int | None = STEPS
) -> StudyRecord:
    return StudyRecord(
        name="rows",
        objectives=tuple(objectives),
        constraints=(),
        trials=tuple(trials),
        settings={"train": {"steps": steps}} if steps else {},
        environment={},
        data={},
        budget=len(trials),
        created=0.0,
    )
