"""Opens the study that a launch searches, or creates it, and refuses what would make its trials incomparable."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.errors import Conflict, UsageError
from nas.measure import environment
from nas.measure.resident import give_back
from nas.running.launch import Launch
from nas.running.same_study import refuse_another, with_search_rules, with_stored_versions
from nas.settings import protocol_versions, recipe_versions
from nas.settings.study_file import StudyFile
from nas.study import creation, run_folders
from nas.study.database import DATABASE
from nas.study.lock import creation_lock
from nas.study.store import Store
from nas.study.stored_study import StoredStudy
from nas.study.transactions import Database
from nas.tasks import Task, floors_of


@dataclass(frozen=True)
class Opened:
    """Holds an open study, its budget as it is stored, and the one that this launch asks for."""

    store: Store
    known: int
    budget: int


def open_or_create(
    folder: Path, file: StudyFile, launch: Launch, task: Task | None, database: Database | None
) -> Opened:
    """Opens or creates the study. Of launches that begin at the same moment, one creates it and the others open it.

    Raises Conflict, and changes nothing, where another study or others' files stand.
    """
    with creation_lock(folder):
        return _open_or_create(folder, file, launch, task, database)


def _open_or_create(
    folder: Path, file: StudyFile, launch: Launch, task: Task | None, database: Database | None
) -> Opened:
    now, settings = _environment(file, launch), file.to_toml()
    store = creation.open_to_write(folder, file.name, file.objective_list(), database)
    if store is None:
        if not (folder / DATABASE).exists():
            creation.refuse_strangers(folder, settings)
        store, made = _create(folder, file, launch, task, now, database)
        if made:
            creation.write_descriptions(folder, settings, now, anew=True)
            budget = launch.trials or file.search.trials
            return Opened(store, budget, budget)
    try:
        opened = _go_on(store, folder, file, launch, task)
        creation.write_descriptions(folder, settings, now, anew=False)
    except BaseException:
        store.close()
        raise
    return opened


def _create(
    folder: Path,
    file: StudyFile,
    launch: Launch,
    task: Task | None,
    now: Mapping[str, Any],
    database: Database | None,
) -> tuple[Store, bool]:
    """Writes the study's attributes. Returns False where another driver made the study in this moment.

    Raises InvalidStudyFile for a recipe or a protocol that this version does not have.
    """
    recipe_versions.check(file.train.recipe)
    protocol_versions.check(file.measure.protocol)
    floors = {"floors": floors_of(task, file.train.evaluation_tokens)} if task else {}
    give_back()
    created = time.time()
    attributes = {
        **run_folders.at_first(launch.folder, folder.name, created),
        **({"data": task.describe() | floors} if task else {}),
        "environment": now,
        "created": created,
        "budget": launch.trials or file.search.trials,
        "settings": file.resolved(),
    }
    try:
        return creation.create(folder, file.name, file.objective_list(), attributes, database), True
    except Conflict as conflict:
        if database is None or conflict.code != "study-exists":
            raise
        return Store.open(database, file.name), False


def _go_on(store: Store, folder: Path, file: StudyFile, launch: Launch, task: Task | None) -> Opened:
    """Raises Conflict when the stored study differs, and UsageError when more trials are trained than asked for."""
    stored, trials = store.attributes(), StoredStudy(folder, store).trials()
    file = with_stored_versions(file, stored)
    trained = sum(trial.trained for trial in trials)
    refuse_another(stored, file, launch.source, task.describe() if task else None, _environment(file, launch), trained)
    if (settings := with_search_rules(stored["settings"], file)) != stored["settings"]:
        store.set_attribute("settings", settings)
    asked_first = stored["settings"]["search"]["trials"]
    known = stored.get("budget", asked_first)
    budget = launch.trials or (known if file.search.trials == asked_first else max(file.search.trials, known))
    if budget < trained:
        text = f"study '{file.name}' has trained {trained} trials, more than the {budget} that are asked for"
        raise UsageError(text, where="--trials", help="give the total that you want, earlier trials counted")
    return Opened(store, known, budget)


def _environment(file: StudyFile, launch: Launch) -> dict[str, Any]:
    return dict(launch.described or environment()) | {"command": launch.command, "seed": file.search.seed}
