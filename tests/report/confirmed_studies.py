"""Confirmations of the study in conftest.py: noise around what the search found, which was lucky."""

from dataclasses import replace

import numpy as np

from nas import pareto
from nas.confirmation import Block, Confirmation, Retraining
from nas.results import StudyRecord

HARDWARE = "AMD EPYC 7B13, 2 cores"
SPREAD, LUCK = 0.012, 0.02


def confirmed(record: StudyRecord, failing: int | None = None) -> StudyRecord:
    """Trains the front and one dominated trial with 3 to 5 new seeds; the trial `failing` diverges with one."""
    generator, front = np.random.default_rng(18), pareto.front_of(record)
    near = next(trial for trial in record.trials if trial.eligible and trial not in front)
    found = {}
    for i, trial in enumerate((*front, near)):
        truth = trial.metrics["val_loss"] + LUCK
        losses = truth + SPREAD * generator.normal(size=3 + i % 3)
        seeds = [
            Retraining(1000 + k, 200, {"val_loss": float(loss)}, {"test_loss": float(loss) + 0.03})
            for k, loss in enumerate(losses)
        ]
        if trial.number == failing:
            seeds.append(Retraining(2000, 200, {}, reason="nan"))
        times = trial.metrics["decode_ms_per_token"] * generator.lognormal(0, 0.02, size=5)
        blocks = [Block(60.0 * k, {"decode_ms_per_token": float(ms)}, HARDWARE) for k, ms in enumerate(times)]
        found[trial.number] = Confirmation(trial.number, tuple(seeds), tuple(blocks))
    return replace(record, confirmed=found)
