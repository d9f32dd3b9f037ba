"""Makes a new study out of a stored one, as `nas fork` does: whole, or its valid trials in another file."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeAlias

from nas import files
from nas.api.study import Study
from nas.data.place import with_absolute_corpus
from nas.errors import Conflict, UsageError
from nas.measure import DeviceLock, environment
from nas.measurement import TimedMetrics
from nas.results import TrialResult
from nas.running.carried_trials import carried, measured_otherwise, trained_otherwise
from nas.running.events import Waiting
from nas.running.front_measurement import MEMBER_SECONDS
from nas.running.measuring import LoneMeasurement
from nas.running.placement import resolve_device
from nas.running.same_study import require_versions, with_stored_versions
from nas.settings import study_file
from nas.settings.study_file import STUDY_NAME, StudyFile
from nas.study import checked, creation, run_folders, stored_study, whole_study
from nas.study.database import DATABASE, file_url
from nas.study.database_place import LOCAL, DatabasePlace, database_place
from nas.study.deleting import delete_elsewhere
from nas.study.run_folders import ATTRIBUTE, FolderPlace, folder_place
from nas.study.stored_study import StoredStudy, runs_folder
from nas.study.study_drivers import is_running
from nas.study.transactions import Database
from nas.study.whole_study import WholeStudy
from nas.tasks import Task, open_task
from nas.training.torch_state import borrowed_torch
from nas.trial_files import RunFolder, copy

FROM_NOTHING = "nas search FILE   starts a study from nothing"


@dataclass(frozen=True)
class Fork:
    """Tells what a fork has made."""

    study: Study
    taken: int
    """The number of trials that the new study holds."""
    measured: int
    """The number of them that were measured anew on this machine."""
    left: Mapping[str, int]
    """The numbers of those that were not taken, by the reason."""


def fork(
    study: str | Path,
    new: str,
    file: StudyFile | Path | str | None = None,
    *,
    storage: str | DatabasePlace | None = None,
    origin: str | DatabasePlace | None = None,
    folder: str | Path | FolderPlace | None = None,
    observer: Callable[[dict[str, Any]], None] = lambda event: None,
) -> Fork:
    """Makes the study `new` out of a stored one, which stays as it is.

    Without a file the new study is whole and unchanged. With a changed study file it takes over every trial that is
    still valid; docs/commands.md says which. `storage` says where the new study is stored, by default where the old one
    is; `origin` where the old one is. `folder` says where its trials keep their files, by default in its own folder;
    those of the old one are found as by `open_study`. `observer` is called with each trial that is measured.

    Raises UsageError for a wrong name, Conflict where the new study exists, where drivers search the old one that is to
    be copied whole, or where no trial can be taken over, and OutOfReach.
    """
    if not STUDY_NAME.fullmatch(new):
        raise UsageError(f"'{new}' is no name of a study", where="NEW", help="letters, digits, '_', '-' and '.'")
    source = stored_study.open_study(study, origin, "--from")
    with closing(source.store):
        place = source.place if storage is None else database_place(storage, "--storage")
        own, named = runs_folder() / new, None if folder is None else folder_place(folder)
        if os.path.lexists(own):
            raise Conflict(f"'{own}' exists", code="study-exists", help="choose another name for the new study")
        found = _whole(source, new) if file is None else _changed(source, _read(file, new), observer)
        content, numbers, left, measured = found
        with _kept(source, content, numbers, new, named) as content:
            _make(source, content, numbers, new, own, place)
    made = Study(stored_study.open_study(own, place or LOCAL, run_folder=named))
    return Fork(made, len(content.rows), measured, left)


def _read(file: StudyFile | Path | str, new: str) -> StudyFile:
    if isinstance(file, StudyFile):
        return file.model_copy(update={"name": new})
    return study_file.load(file, [f"name={new!r}"])


Content: TypeAlias = tuple[WholeStudy, tuple[int, ...] | None, Mapping[str, int], int]
"""A new study; the former numbers of its trials where these change; why others were left; how many were measured."""


def _whole(source: StoredStudy, new: str) -> Content:
    if is_running(source):
        help = f"nas stop {source.in_commands} --now   ends the search; the copy can then be continued elsewhere"
        raise Conflict(f"study '{source.name}' is being searched", code="locked", help=help)
    file, attributes = source.file, source.store.attributes()
    settings = {**attributes["settings"], "name": new}
    budget = attributes.get("budget", file.search.trials)
    jobs = whole_study.jobs_of(source.store)
    attributes |= {"settings": settings}
    attributes.pop(ATTRIBUTE, None)  # the copy has its files elsewhere
    return WholeStudy(file.objective_list(), attributes, source.store.rows(), budget, jobs), None, {}, 0


def _changed(source: StoredStudy, file: StudyFile, observer: Callable[[dict[str, Any]], None]) -> Content:
    stored, before = source.file, source.store.attributes()
    file = with_absolute_corpus(with_stored_versions(file, before))
    require_versions(source.name, file)
    task = None if file.trial else open_task(file.task)
    described = task.describe() if task else None
    if reason := trained_otherwise(stored, before.get("data", {}), file, described):
        text = f"no trial of study '{source.name}' is valid in the new one: all were {reason}"
        raise Conflict(text, code="nothing-to-take", help=FROM_NOTHING)
    now = environment()
    anew = measured_otherwise(stored, before.get("environment", {}), file, now)
    if anew and task is None and any(not each.means.exact for each in file.judged()):
        text = f"study '{source.name}' has a training of your own, whose times nas cannot measure on other hardware"
        raise Conflict(text, code="hardware-changed", help=FROM_NOTHING)
    with borrowed_torch():
        found = carried(source, file, _measurer(task, file, observer) if anew and task else None)
    if not found.rows:
        detail = "\n".join(f"{count} {why}" for why, count in found.left.items())
        text = f"study '{source.name}' has no trial that is valid in the new one"
        raise Conflict(text, code="nothing-to-take", detail=detail, help=FROM_NOTHING)
    attributes = {
        **({"data": before["data"]} if "data" in before else {}),
        "environment": now | {"seed": file.search.seed, "command": f"nas fork {source.address} {file.name}"},
        "created": time.time(),
        "budget": max(file.search.trials, len(found.rows)),
        "settings": file.resolved(),
    }
    content = WholeStudy(file.objective_list(), attributes, found.rows, attributes["budget"])
    return content, found.numbers, found.left, found.measured


def _measurer(
    task: Task, file: StudyFile, observer: Callable[[dict[str, Any]], None]
) -> Callable[[TrialResult], TimedMetrics]:
    device = resolve_device(file, None)[0]
    lock = DeviceLock(device)

    def measure(trial: TrialResult) -> TimedMetrics:
        measurement = LoneMeasurement.of(trial.model, task, file, device, lock, MEMBER_SECONDS)
        while isinstance(found := measurement.step(), Waiting):
            observer({"type": "waiting", "for": found.what, "trial": trial.number, "since": found.since})
        observer({"type": "measured", "trial": trial.number, "metrics": dict(found.metrics), "uncertain": []})
        return found

    return measure


@contextmanager
def _kept(
    source: StoredStudy, content: WholeStudy, numbers: tuple[int, ...] | None, new: str, named: FolderPlace | None
) -> Iterator[WholeStudy]:
    """Fills the place that is named for the files of the new study's trials, and empties it if none is made."""
    if named is None or not named.text:
        yield content
        return
    kept = run_folders.taken(new, token_hex(8), named)  # an id of its own: what stands there already is another study's
    try:
        _copy_trials(source, numbers, kept)
        yield replace(content, attributes={**content.attributes, ATTRIBUTE: run_folders.described(kept, named)})
    except BaseException:
        delete_elsewhere(kept, whole=True)
        raise


def _make(
    source: StoredStudy,
    content: WholeStudy,
    numbers: tuple[int, ...] | None,
    new: str,
    folder: Path,
    place: DatabasePlace | None,
) -> None:
    """Makes folder and rows: first all beside its place, then at once."""
    text = checked.settings(content.attributes).to_toml()
    with files.folder_beside(folder) as temporary:
        if numbers is None and not source.missing_files:
            files.copy_folder(files.refuse_links(source.folder, "trained"), temporary / "trained")
        if ATTRIBUTE not in content.attributes:
            _copy_trials(source, numbers, RunFolder(str(temporary)))
        creation.write_descriptions(temporary, text, content.attributes.get("environment", {}), anew=True)
        if place is None:
            with closing(Database(file_url(temporary / DATABASE))) as database:
                whole_study.write(database, new, content)
        temporary.rename(folder)
    if place is not None:
        try:
            with closing(Database(place)) as database:
                database.check()
                whole_study.write(database, new, content)
        except BaseException:
            files.delete_folder(folder)
            raise


def _copy_trials(source: StoredStudy, numbers: tuple[int, ...] | None, target: RunFolder) -> None:
    """Copies the files of trials that can be reached from here. With `numbers`, trial i gets those of numbers[i]."""
    if source.files_elsewhere:
        return
    kept = source.run_folder
    there = kept.numbers()
    for new, old in enumerate(numbers) if numbers is not None else ((number, number) for number in there):
        if old in there:
            copy(kept.trial(old), target.trial(new))
