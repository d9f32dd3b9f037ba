"""Measures the overhead of a trial: our driver against stock Ray Tune with `OptunaSearch`.

Both run the same trivial trial body (it imports torch, as every real trial must, and sums one tensor) over the same
three parameters and two objectives on the same CPUs. Stock is what its documentation shows: a function trainable,
`OptunaSearch` with its default sampler, nothing else set. Every run has its own process. The seconds a trial are the
slope between a short and a long run; what remains of the short run is start-up.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.errors import NasError, UsageError
from nas.results import Rung
from nas.running.events import Completed, Event, Job, Measured
from nas.settings.study_file import StudyFile, parse

SHORT = 10
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
[resources]
device = "cpu"
"""


class TrivialBody:
    """Does only what every trial has to do."""

    def __init__(self, job: Job) -> None:
        self.job, self.measured = job, False

    def step(self) -> Event:
        architecture = self.job.architecture
        if not self.measured:
            self.measured = True
            return Measured({"params": float(architecture["hidden"] * len(architecture["blocks"]))})
        loss = _loss(architecture["hidden"], len(architecture["blocks"]))
        return Completed(Rung(1, 0.0, {"val_loss": loss}), {"val_loss": loss})


def compare(trials: int) -> dict[str, float]:
    """Makes four runs, about four minutes on two cores.

    Raises UsageError for too few trials, NasError when a run fails.
    """
    if trials <= SHORT:
        raise UsageError(f"--trials must be above {SHORT}, got {trials}", where="--trials")
    result: dict[str, float] = {}
    for who in ("ours", "stock"):
        short, long = _timed(who, SHORT), _timed(who, trials)
        slope = (long - short) / (trials - SHORT)
        result |= {f"{who}_seconds_per_trial": slope, f"{who}_startup_seconds": short - SHORT * slope}
    result["ratio"] = result["stock_seconds_per_trial"] / result["ours_seconds_per_trial"]
    return result


def _timed(who: str, trials: int) -> float:
    """Returns the wall-clock seconds of one run, from the start of its process to its end."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "nas.bench.driver", who, str(trials)], capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise NasError(f"the {who} run of {trials} trials failed", detail="\n".join(done.stderr.splitlines()[-5:]))
    trained = json.loads(done.stdout.splitlines()[-1])["trained"]
    if trained != trials:
        raise NasError(f"the {who} run trained {trained} of {trials} trials")
    return seconds


def _ours(trials: int) -> int:
    from nas.running import ray_executor as ray_tune
    from nas.running.coordinator import Coordinator
    from nas.running.placement import place
    from nas.running.stop_control import StopControl
    from nas.study.store import Store, sqlite_url

    file: StudyFile = parse(STUDY)
    with tempfile.TemporaryDirectory(prefix="nas-bench-") as name:
        store = Store.create(sqlite_url(Path(name)), file.name, file.objective_list())
        coordinator = Coordinator(store, file, owner="bench", budget=trials, prefetch=True)
        ray_tune.run(coordinator, TrivialBody, StopControl(Path(name)), place(file))
        coordinator.close()
        return coordinator.counts.trained


def _stock(trials: int) -> int:
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    space = {
        "depth": tune.randint(1, 13),
        "hidden": tune.choice([16, 32, 48, 64, 96, 128, 160, 192]),
        "heads": tune.choice([1, 2, 4, 8]),
    }
    search = OptunaSearch(metric=["val_loss", "params"], mode=["min", "min"])
    with tempfile.TemporaryDirectory(prefix="nas-bench-") as name:
        tuner = tune.Tuner(
            _stock_trial,
            param_space=space,
            tune_config=tune.TuneConfig(search_alg=search, num_samples=trials),
            run_config=tune.RunConfig(storage_path=name),
        )
        results = tuner.fit()
        return sum("val_loss" in (result.metrics or {}) for result in results)


def _stock_trial(config: Mapping[str, Any]) -> dict[str, float]:
    depth, hidden = config["depth"], config["hidden"]
    return {"val_loss": _loss(hidden, depth), "params": float(hidden * depth)}


def _loss(hidden: int, depth: int) -> float:
    import torch  # imported here, as in a trial, so that each new worker pays for it

    return float(torch.tensor([3.0, -hidden / 100, -depth / 10]).sum())


if __name__ == "__main__":
    _run = {"ours": _ours, "stock": _stock}[sys.argv[1]]
    sys.stdout.write(json.dumps({"trained": _run(int(sys.argv[2]))}) + "\n")
