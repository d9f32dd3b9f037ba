"""Runs stock Ray Tune with `OptunaSearch`, as its documentation shows it, for comparison with our search.

It uses a function trainable, Optuna's default sampler over the same space (define-by-run), no scheduler, nothing else
set. The trial is ours: the same measurement under the same lock, the same trainer with the same settings, and one
evaluation at the end, since nothing uses rungs. A callback notes when a result is known; it changes nothing.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from nas.architecture import Architecture
from nas.measure import DeviceLock
from nas.results import METRICS
from nas.running.measuring import measure_alone
from nas.running.placement import place
from nas.running.proposer import seed_of
from nas.settings.study_file import StudyFile
from nas.space.architecture_space import Space
from nas.tasks import open_task
from nas.training.trainer import Trainer

LEARNING_RATE = "learning_rate"


def run(file: StudyFile, folder: Path, started: float, until: float, trials: int | None) -> list[dict[str, Any]]:
    """Returns the finished trials (see nas.bench.launches) of a run that ends at `until`; both are Unix seconds.

    `trials` ends it earlier, after so many.
    """
    placement, objectives = place(file), file.objective_list()
    ray.init(num_cpus=int(placement.cpus), num_gpus=int(placement.gpus))
    share = {"cpu": file.resources.cpus_per_trial}
    if placement.gpus and file.resources.gpus_per_trial:
        share["gpu"] = file.resources.gpus_per_trial
    search = OptunaSearch(
        _Choices(file),
        metric=[objective.metric for objective in objectives],
        mode=[objective.goal for objective in objectives],
        seed=file.search.seed,
    )
    notes = folder / "finished.jsonl"
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(train, file=file, device=placement.device), share),
        tune_config=tune.TuneConfig(
            search_alg=search, num_samples=trials or -1, time_budget_s=max(1.0, until - time.time())
        ),
        run_config=tune.RunConfig(storage_path=str(folder / "tune"), callbacks=[_Notes(file, started, notes)]),
    )
    tuner.fit()
    ray.shutdown()
    return [json.loads(line) for line in notes.read_text(encoding="utf-8").splitlines()] if notes.exists() else []


def train(config: Mapping[str, Any], file: StudyFile, device: str) -> None:
    """Runs one trial in its own worker: measure, train to the full budget, report once."""
    torch.set_num_threads(max(1, int(file.resources.cpus_per_trial)))
    architecture, rate = chosen(file, config)
    task, lock = open_task(file.task), DeviceLock(device)
    metrics = measure_alone(architecture, task, file, device, lock)
    trainer = Trainer(
        architecture,
        task,
        file.train.model_copy(update={"rungs": (1.0,)}),
        seed=seed_of(file.search.seed, architecture.id),
        device=device,
        learning_rate=rate,
        lock=lock,
    )
    rung = trainer.run_to_next_rung()
    tune.report({**metrics, **rung.metrics})


def chosen(file: StudyFile, config: Mapping[str, Any]) -> tuple[Architecture, float | None]:
    """Returns the architecture of a configuration, and the learning rate where that is searched."""
    return Space(file.spaces()).suggest(_Replay(config)), config.get(LEARNING_RATE)


class _Choices:
    """Defines the space by run; its suggestions become the configuration of the trial."""

    def __init__(self, file: StudyFile) -> None:
        self.file, self.space, self.rates = file, Space(file.spaces()), list(file.train.learning_rate or ())

    def __call__(self, trial: Any) -> None:
        self.space.suggest(trial)
        if len(self.rates) > 1:
            trial.suggest_categorical(LEARNING_RATE, self.rates)

    def __reduce__(self) -> Any:
        return (_Choices, (self.file,))  # the caches of a space cannot be pickled


class _Replay:
    """Chooses what a configuration holds."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config

    def suggest_categorical(self, name: str, choices: Any, /) -> Any:
        return self.config[name]


class _Notes(tune.Callback):  # type: ignore[misc]  # Ray ships no types
    """Writes a line for every result that the driver gets. Ray Tune pickles it, so it holds plain values only."""

    def __init__(self, file: StudyFile, started: float, path: Path) -> None:
        self.file, self.started, self.path = file, started, path

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        seconds = time.time() - self.started
        architecture, rate = chosen(self.file, trial.config)
        metrics = {name: float(result[name]) for name in (*METRICS, "contended") if name in result}
        row = {"seconds": seconds, "architecture": architecture.canonical(), "learning_rate": rate, "metrics": metrics}
        with self.path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(row) + "\n")
