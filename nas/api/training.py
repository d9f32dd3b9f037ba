"""Trains the architecture of a stored trial by itself, as `Study.train` and `nas train` do."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from nas import files
from nas.api.model import Model, load_model
from nas.errors import UsageError
from nas.measure import DeviceLock
from nas.measure.exclusive import step_lock
from nas.measure.hardware import checked_device
from nas.results import TrialResult
from nas.running.events import waiting
from nas.running.held_signals import held_signals
from nas.running.placement import rank_devices, resolve_device, threads_of
from nas.running.proposer import seed_of
from nas.running.same_study import require_recipe
from nas.running.study_log import keep_log
from nas.study.stored_study import StoredStudy, first_number
from nas.tasks import Task, floors_of
from nas.training.data_parallel import DataParallel
from nas.training.execution import require_compiler
from nas.training.folder_names import WEIGHTS
from nas.training.recipe import Recipe, recipe_of, same_task
from nas.training.standalone import train_and_test
from nas.training.torch_state import borrowed_torch
from nas.training.trainer import SharedLock, Trainer
from nas.training.training_folder import CHECKPOINT, refuse_foreign, stored_in


def train(
    stored: StoredStudy,
    number: int,
    steps: int | None,
    seed: int | None,
    overrides: Sequence[str],
    out: Path | None,
    device: str | None,
    observer: Callable[[dict[str, Any]], None] | None,
) -> Model:
    """Trains one architecture: see `nas.api.study.Study.train`."""
    chosen = stored.trial(number)
    stored.require_built_in("nas train")
    require_recipe(stored.name, stored.file.train.recipe)
    if device is not None:
        checked_device(device)
    if steps is not None and steps < 1:
        raise UsageError(f"steps must be at least 1, got {steps}", where="steps")
    seed = seed_of(stored.file.search.seed, first_number(stored.store.row(number))) if seed is None else seed
    recipe = recipe_of(stored.file, chosen, steps, overrides)
    if out is None:
        stored.require_own_folder()
    folder = out or files.refuse_links(stored.folder, "trained", recipe.folder_name(number, seed))
    if out:
        refuse_foreign(out)
    identity = {"study": stored.name, "trial": number, "architecture_id": chosen.architecture_id}
    identity |= {"seed": seed, "steps": recipe.steps, "changed": recipe.changed}
    tell = observer or (lambda event: None)
    if (folder / WEIGHTS).exists():
        stored_in(folder, identity)
        tell({"type": "loaded", "folder": str(folder)})
        return load_model(folder)
    device = device or resolve_device(recipe.file, None)[0]
    require_compiler(recipe.file.train, device)
    threads, devices = threads_of(recipe.file, device), rank_devices(recipe.file, device)  # as in the search
    with held_signals() as held, keep_log(folder), borrowed_torch(threads), ExitStack() as ending:
        tell(waiting("data"))
        task, floors = _task(stored, recipe)
        lock = DeviceLock(device, on_wait=lambda since: tell(waiting("device", since=since)))
        trainer = _trainer(recipe, chosen, task, seed, folder, device, step_lock(lock, devices))
        if len(devices) > 1:
            trainer.parallel = ending.enter_context(closing(DataParallel(recipe.file.task, devices, threads)))
        train_and_test(trainer, folder, identity | {"floors": floors}, tell, lambda: held.number != 0)
    return load_model(folder)


def _task(stored: StoredStudy, recipe: Recipe) -> tuple[Task, Any]:
    """Returns the task, with the stored floors where the split is that of the search."""
    data = stored.record().data
    task = same_task(stored.name, recipe.file, data)
    searched = (stored.file.task, stored.file.train.evaluation_tokens)
    same = (recipe.file.task, recipe.evaluation_tokens) == searched
    return task, data["floors"] if same else floors_of(task, recipe.evaluation_tokens)


def _trainer(
    recipe: Recipe, trial: TrialResult, task: Task, seed: int, folder: Path, device: str, lock: SharedLock
) -> Trainer:
    return Trainer(
        trial.model,
        task,
        recipe.file.train,
        seed=seed,
        device=device,
        checkpoint=folder / CHECKPOINT,
        learning_rate=recipe.learning_rate,
        lock=lock,
    )
