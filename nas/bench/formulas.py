"""Defines a large study that nobody trains: formulas give its results, for the benchmark of costs at scale.

It has 10¹¹ architectures and three objectives. Parameters, FLOPs and decode state are computed without measuring
(nas.measure.costs), as in a real search.
"""

import random
import time
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.architecture import Architecture
from nas.measure.costs import Costs
from nas.reasons import Reason
from nas.results import Rung
from nas.running.events import Completed, Event, Job, Measured, Reached
from nas.samplers.candidates import RandomChooser, draw_candidate
from nas.settings.study_file import StudyFile, parse
from nas.space.architecture_space import Space

STUDY = """
name = "bench_scale"
[task]
context = 64
[space]
mixed = true
depth = { low = 2, high = 8 }
hidden = [64, 96, 128, 192]
[[space.attention]]
kind = "softmax"
heads = [2, 4, 8]
kv_heads = [1, "half", "all"]
[[space.attention]]
kind = "window"
heads = [2, 4, 8]
window = [8, 16, 32]
[[space.attention]]
kind = "linear"
heads = [2, 4, 8]
[train]
steps = 200
rungs = [0.25, 0.5, 1.0]
[[objectives]]
metric = "val_loss"
[[objectives]]
metric = "decode_ms_per_token"
[[objectives]]
metric = "peak_inference_mib"
[resources]
device = "cpu"
"""
STEPS = (50, 100, 200)
VOCABULARY = 65
PRUNED = 0.2
"""The share of the finished trials that ended at their first or second rung."""
SPEED = {"softmax": 0.12, "window": 0.1, "linear": 0.08}
"""Milliseconds per token of a block of hidden size 128."""


class Formulas:
    """Computes the results of an architecture's trial. Noise follows from its id, so that it never changes.

    `overrides` changes settings of the study, such as `search.stopping=false`.
    """

    def __init__(self, *overrides: str) -> None:
        self.file: StudyFile = parse(STUDY, overrides)
        self.describe = Costs(VOCABULARY, self.file.task.context).metrics

    def measured(self, architecture: Architecture) -> dict[str, float]:
        known = self.describe(architecture)
        wide = (architecture.hidden / 128) ** 0.5
        decode = 0.02 + sum(SPEED[block.attention.kind] * wide for block in architecture.blocks)
        peak = (known["params"] * 4.4 + known["decode_state_kib"] * 1024) / 2**20
        return {**known, "decode_ms_per_token": decode * _noise(architecture, 0.03), "peak_inference_mib": peak}

    def rungs(self, architecture: Architecture) -> list[Rung]:
        final = (1.2 + 12 * self.describe(architecture)["params"] ** -0.2) * _noise(architecture, 0.02)
        return [Rung(step, step / 20, {"val_loss": final * (0.9 + 20 / step)}) for step in STEPS]

    def body(self, job: Job) -> "FormulaBody":
        return FormulaBody(self, Architecture.model_validate(dict(job.architecture)))

    def finished(self, count: int, seed: int = 0) -> list[FrozenTrial]:
        """Makes rows of the database for so many distinct architectures: most complete, some stopped at a rung."""
        generator, space, rows = random.Random(seed), Space(self.file.spaces()), dict[str, FrozenTrial]()
        while len(rows) < count:
            candidate = draw_candidate(space.suggest, RandomChooser(generator))
            architecture: Architecture = candidate.configuration
            metrics, rungs = self.measured(architecture), self.rungs(architecture)
            complete = generator.random() >= PRUNED
            reached = rungs if complete else rungs[: generator.choice((1, 2))]
            metrics |= rungs[-1].metrics if complete else {}
            rows[architecture.id] = create_trial(
                state=TrialState.COMPLETE if complete else TrialState.PRUNED,
                values=[metrics[o.metric] for o in self.file.objective_list()] if complete else None,
                params=dict(candidate.params),
                distributions=dict(candidate.distributions),
                user_attrs={
                    "architecture": architecture.canonical(),
                    "architecture_id": architecture.id,
                    "attempt": 1,
                    "proposed": time.time(),
                    "metrics": metrics,
                    "rungs": [vars(rung) for rung in reached],
                    **({} if complete else {"reason": Reason.DOMINATED}),
                },
            )
        return list(rows.values())


@dataclass
class FormulaBody:
    """Reports all results without any work."""

    formulas: Formulas
    architecture: Architecture
    told: int = -1

    def step(self) -> Event:
        self.told += 1
        if not self.told:
            return Measured(self.formulas.measured(self.architecture))
        rungs = self.formulas.rungs(self.architecture)
        rung = rungs[self.told - 1]
        return Completed(rung, rung.metrics) if self.told == len(rungs) else Reached(rung)


def _noise(architecture: Architecture, size: float) -> float:
    """Returns a factor near 1."""
    return 1 + random.Random(f"{architecture.id}:{size}").gauss(0, size)
