"""Small studies whose front was trained again: losses by seed, times by block, both given by hand."""

from collections.abc import Mapping, Sequence

from nas.confirmation import Block, Confirmation, Retraining
from nas.results import Constraint, Objective, State, StudyRecord, TrialResult

LOSS, TIME, SIZE = (
    Objective("val_loss", "min"),
    Objective("decode_ms_per_token", "min"),
    Objective("weights_mib", "min"),
)
HARDWARE = "a processor, 2 cores"


def trial(number: int, loss: float, milliseconds: float, mib: float = 1.0) -> TrialResult:
    metrics = {"val_loss": loss, "decode_ms_per_token": milliseconds, "weights_mib": mib}
    return TrialResult(number, State.COMPLETE, f"id{number}", {}, metrics=metrics, parameters={"size": number})


def confirmation(
    number: int,
    losses: Sequence[float],
    milliseconds: Sequence[float] = (),
    *,
    steps: int = 200,
    drop: float | None = None,
    failures: int = 0,
) -> Confirmation:
    """The k-th loss is that of seed 100 + k; `drop` more is lost on the test split; failures come last."""
    good = [
        Retraining(100 + k, steps, {"val_loss": x}, {} if drop is None else {"test_loss": x + drop})
        for k, x in enumerate(losses)
    ]
    bad = [Retraining(100 + len(losses) + k, steps, {}, reason="nan") for k in range(failures)]
    blocks = [Block(60.0 * k, {"decode_ms_per_token": ms}, HARDWARE) for k, ms in enumerate(milliseconds)]
    return Confirmation(number, (*good, *bad), tuple(blocks))


def study(
    trials: Sequence[TrialResult],
    confirmations: Sequence[Confirmation],
    objectives: Sequence[Objective] = (LOSS, TIME),
    constraints: Sequence[Constraint] = (),
    settings: Mapping[str, object] | None = None,
) -> StudyRecord:
    return StudyRecord(
        name="demo",
        objectives=tuple(objectives),
        constraints=tuple(constraints),
        trials=tuple(trials),
        settings=settings or {"train": {"steps": 200}},
        environment={"cpu": "a processor", "logical_cores": 2},
        data={},
        budget=len(trials),
        created=0.0,
        confirmed={each.trial: each for each in confirmations},
    )
