"""A training of one's own through the driver: results, failures, interruption, resume, and what is refused."""

from pathlib import Path

import pytest

from nas.body import Finished, Job, Measured, Reached
from nas.results import State
from nas.running import driver
from nas.running.budget import End
from nas.settings import study_file

TEXT = """
name = "own"
[space.parameters]
x = { low = 0.0, high = 1.0 }
width = { low = 1, high = 64, log = true }
shape = ["round", "flat"]
fixed = 7
[metrics.error]
goal = "min"
exact = true
[metrics.size]
goal = "min"
unit = "kB"
cheap = true
exact = true
[[objectives]]
metric = "error"
[[objectives]]
metric = "size"
[[constraints]]
metric = "size"
max = 60
[train]
steps = 8
[search]
trials = 12
"""
SERIAL = driver.Launch(executor="serial")


def file(*overrides: str, text: str = TEXT):
    return study_file.parse(text, overrides)


def formula(job: Job):
    """A closed-form training: a curve that falls to where the parameters say."""
    x, width, shape = job.parameters["x"], job.parameters["width"], job.parameters["shape"]
    yield Measured({"size": float(width)})
    for step in job.rungs:
        yield Reached(step, {"error": end(x, width, shape) + 1 / step})
    yield Finished({"error": end(x, width, shape) + 1 / job.steps, "accuracy": 1 - x})


def end(x: float, width: int, shape: str) -> float:
    return (x - 0.3) ** 2 + 1 / width + (shape == "flat")


def run(folder: Path, body=formula, launch: driver.Launch = SERIAL, **kinds):
    return driver.run(kinds.pop("study", file()), folder, launch, body=body)


@pytest.mark.parametrize("sampler", ["pareto", "tpe", "gp", "nsga2", "random"])
def test_every_sampler_searches_parameters(tmp_path, sampler):
    outcome = run(tmp_path / "own", study=file(f"search.sampler={sampler}"))
    record = outcome.study.record()
    assert (outcome.end, record.trained_count()) == (End.BUDGET, 12)
    trained = [trial for trial in record.trials if trial.state is State.COMPLETE]
    for trial in trained:
        assert trial.parameters["fixed"] == 7
        assert trial.metrics["size"] == trial.parameters["width"] <= 60
        assert trial.metrics["error"] == pytest.approx(
            end(*(trial.parameters[name] for name in ("x", "width", "shape"))) + 1 / 8
        )
    assert len({trial.architecture_id for trial in record.trials}) == len(record.trials)
    assert all(trial.reason == "infeasible:size" for trial in record.trials if trial.parameters["width"] > 60)
