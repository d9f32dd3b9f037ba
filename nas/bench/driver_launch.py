"""Runs one search of the overhead benchmark in its own process, ours or stock, and prints when its trials ended.

    python -m nas.bench.driver_launch ours|stock TRIALS STUDY   →   {"ends": [...], "cpu_seconds": [...]}

`ends` are seconds of the clock that all processes of a machine share (CLOCK_MONOTONIC), `cpu_seconds` what this process
had used by then. Stock is what its documentation shows: a function trainable, `OptunaSearch` with its default sampler,
nothing else set, and a callback that notes the time. Ours is a whole launch of a search, its database included: the one
that NAS_STORAGE or the user's configuration names, else a SQLite file. The caller deletes the study there.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ray import tune

from nas.api import searching
from nas.body import Finished, Job, Measured, Said
from nas.running.launch import Launch
from nas.settings.study_file import parse
from nas.study.database_place import database_place

STUDY = """
name = "bench_driver"
[space]
depth = { low = 1, high = 12 }
hidden = [16, 32, 48, 64, 96, 128, 160, 192]
[[space.attention]]
kind = "softmax"
heads = [1, 2, 4, 8]
[[objectives]]
metric = "val_loss"
[[objectives]]
metric = "params"
[search]
skip = false
[resources]
device = "cpu"
"""
"""No trial is skipped, since stock Ray Tune skips none."""


class Ends:
    """Notes the time of every trial's end."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.cpu_seconds: list[float] = []

    def note(self) -> None:
        """Notes that a trial has ended now."""
        self.ends.append(time.monotonic())
        self.cpu_seconds.append(time.process_time())


def trivial(job: Job) -> Iterator[Said]:
    """Does only what every trial has to do."""
    assert job.architecture is not None
    hidden, depth = job.architecture.hidden, job.architecture.depth
    yield Measured({"params": float(hidden * depth)})
    yield Finished({"val_loss": _loss(hidden, depth)})


def ours(trials: int, folder: Path, study: str) -> Ends:
    """Runs our search, under this name."""
    noted = Ends()

    def observer(event: dict[str, Any]) -> None:
        if event["type"] == "finished" and event["state"] == "COMPLETE":
            noted.note()

    file, place = parse(STUDY, [f"name={study}"]), database_place()
    searching.run(file, folder / study, Launch(trials=trials), observer, trivial, place)
    return noted


def stock(trials: int, folder: Path) -> Ends:
    """Runs Ray Tune as its documentation shows it."""
    from ray.tune.search.optuna import OptunaSearch

    space = {
        "depth": tune.randint(1, 13),
        "hidden": tune.choice([16, 32, 48, 64, 96, 128, 160, 192]),
        "heads": tune.choice([1, 2, 4, 8]),
    }
    noted = _Noting()
    tuner = tune.Tuner(
        _stock_trial,
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(metric=["val_loss", "params"], mode=["min", "min"]), num_samples=trials
        ),
        run_config=tune.RunConfig(storage_path=str(folder), callbacks=[noted]),
    )
    tuner.fit()
    return noted.noted


class _Noting(tune.Callback):  # type: ignore[misc]  # Ray ships no types
    def __init__(self) -> None:
        self.noted = Ends()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.noted.note()


def _stock_trial(config: Mapping[str, Any]) -> dict[str, float]:
    depth, hidden = config["depth"], config["hidden"]
    return {"val_loss": _loss(hidden, depth), "params": float(hidden * depth)}


def _loss(hidden: int, depth: int) -> float:
    import torch  # imported here, as in a trial, so that each new worker pays for it

    return float(torch.tensor([3.0, -hidden / 100, -depth / 10]).sum())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="nas-bench-") as name:
        count = int(sys.argv[2])
        found = ours(count, Path(name), sys.argv[3]) if sys.argv[1] == "ours" else stock(count, Path(name))
    sys.stdout.write(json.dumps(vars(found)) + "\n")
