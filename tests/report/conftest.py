"""A study as a search would leave it: 30 trials whose metrics follow from their sizes, with every kind of ending."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas import report
from nas.architecture import Architecture
from nas.kinds import Headed
from nas.measurement import Measurement
from nas.results import Constraint, Objective, Rung, State, StudyRecord, TrialResult

CREATED = 1_770_000_000.0
OBJECTIVES = (
    Objective("val_loss", "min"),
    Objective("decode_ms_per_token", "min"),
    Objective("peak_inference_mib", "min"),
)
LIMIT = Constraint("weights_mib", max=2.0)
STATE_MIB_PER_HEAD_SHARE = {"softmax": 1.0, "cosine": 1.0, "window": 0.3, "linear": 0.1}
LOSS_OF_KIND = {"softmax": 0.0, "cosine": 0.02, "window": 0.05, "linear": 0.16}


def architecture(generator: np.random.Generator) -> Architecture:
    hidden, depth = int(generator.choice([32, 48, 64, 96, 128])), int(generator.integers(1, 5))
    kind, heads = str(generator.choice(["softmax", "cosine", "window", "linear"])), int(generator.choice([1, 2, 4]))
    attention: dict[str, Any] = {"kind": kind, "heads": heads}
    if kind in ("softmax", "cosine"):
        attention["kv_heads"] = int(generator.choice([1, heads]))
    if kind == "window":
        attention["window"] = int(generator.choice([8, 16, 32]))
    return Architecture.model_validate({"hidden": hidden, "blocks": [{"attention": attention}] * depth})


def cheap_metrics(model: Architecture, generator: np.random.Generator) -> dict[str, float]:
    attention = model.blocks[0].attention
    params = 65 * model.hidden + model.depth * 12 * model.hidden**2
    decode = 0.09 + model.depth * (0.055 + model.hidden * 0.0011) * (1.15 if attention.kind == "window" else 1.0)
    readings = decode * generator.lognormal(0.0, 0.06, size=30)
    state_mib = model.depth * model.hidden * STATE_MIB_PER_HEAD_SHARE[attention.kind] / 1024 * kv_share(attention)
    weights = params * 4 / 2**20
    return {
        **Measurement.of([float(r) for r in readings]).metrics("decode_ms_per_token"),
        **Measurement.of([float(r) * 2.5 for r in readings]).metrics("prefill_ms"),
        "peak_inference_mib": weights + 4 * state_mib + 0.22,
        "weights_mib": weights,
        "decode_state_kib": state_mib * 1024,
        "params": float(params),
        "flops_per_token": 2.0 * params,
        "contended": 0.0,
    }


def kv_share(attention: Headed) -> float:
    return getattr(attention, "kv_heads", attention.heads) / attention.heads


def rungs(model: Architecture, params: float, generator: np.random.Generator) -> tuple[Rung, ...]:
    floor = 0.98 + 6.9 * params**-0.19 + LOSS_OF_KIND[model.blocks[0].attention.kind] + generator.normal(0, 0.025)
    losses = [floor + 2.1 * (step / 25 + 1) ** -0.75 for step in (50, 100, 200)]
    return tuple(
        Rung(step, step * params * 4e-7, {"val_loss": loss, "val_accuracy": 0.9 - loss / 4})
        for step, loss in zip((50, 100, 200), losses, strict=True)
    )


def trial(number: int, generator: np.random.Generator) -> TrialResult:
    model = architecture(generator)
    if number == 0:
        block = {"attention": {"kind": "softmax", "heads": 4}}
        model = Architecture.model_validate({"hidden": 64, "blocks": [block] * 2})
    metrics = cheap_metrics(model, generator)
    started = CREATED + 4.0 + 11.0 * number
    violations = {LIMIT.metric: LIMIT.violation(metrics)}
    result = TrialResult(
        number=number,
        state=State.COMPLETE,
        architecture_id=model.id,
        architecture=model.canonical(),
        params={"hidden": model.hidden, "depth": model.depth, "attention": model.blocks[0].attention.kind},
        metrics=metrics,
        violations=violations,
        baseline=number == 0,
        started=started,
        finished=started + 2.0,
    )
    if violations[LIMIT.metric] > 0:
        return replace(result, state=State.PRUNED, reason=f"infeasible:{LIMIT.metric}")
    reached = rungs(model, metrics["params"], generator)
    finished = started + 6.0 + reached[-1].seconds
    if number in (7, 21):
        reason = "nan" if number == 7 else "oom"
        return replace(result, state=State.FAIL, reason=reason, rungs=reached[:1], finished=finished)
    if reached[1].metrics["val_loss"] > 2.57:
        return replace(result, state=State.PRUNED, rungs=reached[:2], finished=finished)
    learned = {**reached[-1].metrics, "train_seconds": reached[-1].seconds}
    contended = number in (9, 20)
    return replace(
        result,
        rungs=reached,
        metrics={**metrics, **learned, "contended": float(contended)},
        contended=contended,
        attempt=2 if number == 14 else 1,
        finished=finished,
    )


def settings() -> Mapping[str, Any]:
    return {
        "name": "tiny_lm",
        "family": "decoder",
        "task": {"kind": "language_modelling", "corpus": "python-docs", "context": 64, "split": "80/10/10"},
        "space": {
            "depth": [1, 2, 3, 4],
            "hidden": [32, 48, 64, 96, 128],
            "mixed": False,
            "attention": [
                {"kind": "softmax", "heads": [1, 2, 4], "kv_heads": [1, "all"]},
                {"kind": "cosine", "heads": [1, 2, 4], "kv_heads": [1, "all"]},
                {"kind": "window", "heads": [1, 2, 4], "window": [8, 16, 32]},
                {"kind": "linear", "heads": [1, 2, 4]},
            ],
            "feed_forward": {"kind": ["swiglu"], "ratio": [4.0]},
        },
        "train": {"steps": 200, "batch": 16, "rungs": [0.25, 0.5, 1.0], "optimiser": "muon"},
        "measure": {"batch": 1, "prompt": 32, "threads": 1, "repeats": 30},
        "objectives": [{"metric": o.metric, "goal": o.goal} for o in OBJECTIVES],
        "constraints": [{"metric": "weights_mib", "max": 2.0}],
        "search": {"trials": 25, "sampler": "auto", "seed": 0},
    }


@pytest.fixture(scope="session")
def record() -> StudyRecord:
    generator = np.random.default_rng(4)
    return StudyRecord(
        name="tiny_lm",
        objectives=OBJECTIVES,
        constraints=(LIMIT,),
        trials=tuple(trial(number, generator) for number in range(30)),
        settings=settings(),
        environment={
            "cpu": "AMD EPYC 7B13",
            "logical_cores": 2,
            "memory_gib": 7.8,
            "gpus": [],
            "os": "Linux 6.8.0",
            "python": "3.12.4",
            "versions": {"nas": "0.1.0", "torch": "2.11.0", "ray": "2.50.0", "optuna": "5.0.0"},
            "threads": 1,
            "command": "nas search search_spaces/tiny_lm.toml",
            "seed": 0,
        },
        data={
            "name": "python-docs",
            "source": "the documentation that CPython ships",
            "sha256": "6f1c0e8d2f7b4a9d8e3c5b6a7f8091a2b3c4d5e6f708192a3b4c5d6e7f809102",
            "characters": 812345,
            "vocabulary": 97,
            "splits": {"train": [0, 649876], "val": [649876, 731110], "test": [731110, 812345]},
            "floors": {
                "val": {
                    "1-gram": {"loss": 3.21},
                    "2-gram": {"loss": 2.53},
                    "3-gram": {"loss": 2.16},
                    "4-gram": {"loss": 1.93},
                },
                "test": {
                    "1-gram": {"loss": 3.22},
                    "2-gram": {"loss": 2.55},
                    "3-gram": {"loss": 2.18},
                    "4-gram": {"loss": 1.95},
                },
            },
        },
        budget=25,
        created=CREATED,
    )


@pytest.fixture(scope="session")
def page(record: StudyRecord, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index.html of that study's report."""
    return report.write(record, tmp_path_factory.mktemp("reports") / record.name)
