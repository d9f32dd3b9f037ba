"""Runs Optuna with OptunaHub's `multi_metric_pruner`, the stock way to stop trials early with several objectives.

It is used as its own page shows it: `joint`, around a MedianPruner with Optuna's defaults, and a trial reports all
objectives at every rung. As many processes as trials fit side by side share the study through a journal, Optuna's way
to run in parallel. The trial is ours: the same measurement under the same lock, the same trainer with the same rungs.
"""

import multiprocessing
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import optuna
import torch
from optuna.pruners import MedianPruner
from optuna.samplers import BaseSampler, GPSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import MaxTrialsCallback
from optuna.trial import Trial, TrialState

from nas.errors import NasError, UsageError
from nas.measure import DeviceLock
from nas.running.measuring import measure_alone
from nas.running.placement import place
from nas.running.proposer import grouped_tpe, seed_of
from nas.settings.study_file import StudyFile
from nas.space.architecture_space import Space
from nas.study.store import directions, quietly
from nas.tasks import Task, open_task
from nas.training.trainer import Diverged, Trainer, TrainingInterrupted

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe_pruned": grouped_tpe,
    "gp_pruned": lambda seed: GPSampler(seed=seed, deterministic_objective=False),
}
PACKAGE = "pruners/multi_metric_pruner"
ONLINE = "online"
LEARNING_RATE, STUDY, JOURNAL = "learning_rate", "pruned", "journal.log"
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def load_pruner(registry: str | None) -> ModuleType:
    """Loads the pruner's package from a local clone of optunahub-registry, or from GitHub where it is "online".

    Raises UsageError where optunahub is not installed, or the clone lacks the package.
    """
    try:
        import optunahub
    except ImportError as error:
        help = "pip install optunahub   or, with all that the extra brings, pip install 'nas[bench]'"
        text = "OptunaHub is not installed: it comes with the extra 'bench'"
        raise UsageError(text, code="extra-missing", where="--rows", help=help) from error
    if registry is None or registry == ONLINE:
        found: ModuleType = optunahub.load_module(PACKAGE)
        return found
    root = Path(registry) / "package"
    if not (root / PACKAGE / "__init__.py").is_file():
        help = "give a clone of github.com/optuna/optunahub-registry"
        raise UsageError(f"the folder has no package/{PACKAGE}", where=f"--registry {registry}", help=help)
    local: ModuleType = optunahub.load_local_module(PACKAGE, registry_root=str(root.absolute()))
    return local


def run(
    who: str, file: StudyFile, folder: Path, started: float, until: float, trials: int | None, registry: str | None
) -> list[dict[str, Any]]:
    """Returns the finished trials (see nas.bench.launches) of a run that ends at `until`; both are Unix seconds.

    Raises NasError when a worker fails.
    """
    placement, journal = place(file), folder / JOURNAL
    load_pruner(registry)  # before others ask for it too
    with quietly():
        study = optuna.create_study(
            study_name=STUDY, storage=_storage(journal), directions=directions(file.objective_list())
        )
    context = multiprocessing.get_context("spawn")
    work = partial(_work, who, file, placement.device, journal, until, trials, registry)
    workers = [context.Process(target=work, args=(number,)) for number in range(placement.slots)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failed := [worker.exitcode for worker in workers if worker.exitcode]:
        raise NasError(f"{len(failed)} of {len(workers)} workers of the {who} run failed (exit code {failed[0]})")
    return [
        {"seconds": trial.datetime_complete.timestamp() - started, **trial.user_attrs["finished"]}
        for trial in study.get_trials(states=(TrialState.COMPLETE,))
        if trial.datetime_complete is not None
    ]


def _work(
    who: str,
    file: StudyFile,
    device: str,
    journal: Path,
    until: float,
    trials: int | None,
    registry: str | None,
    number: int,
) -> None:
    """Runs one worker: it asks, trains and tells until the time is up, or so many trials have ended in all."""
    torch.set_num_threads(max(1, int(file.resources.cpus_per_trial)))
    module, sampler = load_pruner(registry), SAMPLERS[who](seed_of(file.search.seed, who, number))
    study = pruned_study(file, module, sampler, _storage(journal))
    objective = partial(train, file=file, device=device, module=module, task=open_task(file.task), until=until)
    callbacks = [MaxTrialsCallback(trials, ENDED)] if trials else []
    with quietly():
        study.optimize(objective, timeout=max(1.0, until - time.time()), catch=(Diverged,), callbacks=callbacks)


def pruned_study(
    file: StudyFile, module: ModuleType, sampler: BaseSampler, storage: JournalStorage | None
) -> optuna.Study:
    """Returns the study, which every worker opens with its own sampler and pruner."""
    goals = {o.metric: "maximize" if o.goal == "max" else "minimize" for o in file.objective_list()}
    pruner = module.MultiMetricPruner(MedianPruner(), metric_directions=goals, joint=True)
    return optuna.create_study(
        study_name=STUDY,
        storage=storage,
        directions=directions(file.objective_list()),
        sampler=sampler,
        pruner=pruner,
        load_if_exists=storage is not None,
    )


def train(
    trial: Trial, *, file: StudyFile, device: str, module: ModuleType, task: Task, until: float
) -> tuple[float, ...]:
    """Runs one trial: measure, train to each rung, report all objectives there, and end where the pruner says so.

    Raises optuna.TrialPruned, also when the time is up, and Diverged.
    """
    reporting = module.MultiMetricPrunerTrial(trial)
    architecture, rates = Space(file.spaces()).suggest(reporting), list(file.train.learning_rate or ())
    rate = reporting.suggest_categorical(LEARNING_RATE, rates) if len(rates) > 1 else None
    lock = DeviceLock(device)
    metrics: Mapping[str, float] = measure_alone(architecture, task, file, device, lock)
    for limit in file.constraint_list():
        if limit.means.cheap:
            trial.set_constraint(limit.metric, limit.violation(metrics))
    trainer = Trainer(
        architecture,
        task,
        file.train,
        seed=seed_of(file.search.seed, architecture.id),
        device=device,
        learning_rate=rate,
        lock=lock,
        should_stop=lambda: time.time() > until,
    )
    names = [objective.metric for objective in file.objective_list()]
    while not trainer.done:
        try:
            rung = trainer.run_to_next_rung()
        except TrainingInterrupted as error:
            raise optuna.TrialPruned("the time is up") from error
        metrics = {**metrics, **rung.metrics}
        reporting.report({name: metrics[name] for name in names}, rung.step)
        if not trainer.done and reporting.should_prune():
            raise optuna.TrialPruned()
    told = {"architecture": architecture.canonical(), "learning_rate": rate, "metrics": dict(metrics)}
    trial.set_user_attr("finished", told)
    return tuple(metrics[name] for name in names)


def _storage(journal: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(journal)))
