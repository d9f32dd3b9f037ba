"""Searching from Python: checks the options, runs the search, and returns a Study or raises an error."""

import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from nas import pareto
from nas.api.launching import Executor, Observer, Watched, checked
from nas.api.study import Study
from nas.body import BodyFunction
from nas.errors import NasError, NothingFeasible, TooManyFailures
from nas.reasons import cause_of
from nas.results import StudyRecord, TrialResult
from nas.running import driver
from nas.running.budget import End
from nas.running.closing import AtEnd
from nas.running.driver import Outcome
from nas.running.launch import Launch
from nas.running.study_log import keep_log
from nas.settings import study_file
from nas.settings.study_file import StudyFile
from nas.study import stored_study
from nas.study.database_place import LOCAL, SECRET_VARIABLES, DatabasePlace, database_place
from nas.study.run_folders import FolderPlace
from nas.study.stored_study import refuse_folder_of_another, runs_folder
from nas.study.transactions import Database
from nas.surroundings import without_variables


def search(
    file: StudyFile | Path | str,
    *,
    study: str | None = None,
    storage: str | DatabasePlace | None = None,
    folder: str | Path | FolderPlace | None = None,
    trials: int | None = None,
    time: str | float | None = None,
    cpus: float | None = None,
    gpus: float | None = None,
    executor: Executor = "ray",
    ray_address: str | None = None,
    max_fail_rate: float = 0.5,
    observer: Observer | None = None,
    body: BodyFunction | str | None = None,
) -> Study:
    """Searches the space of a study file, or continues the study that it made, and returns the study.

    `study` gives the study another name. `storage` is the address of the PostgreSQL database that holds the study, or
    "local"; see `open_study`. `folder` is a shared path or a URL where its trials keep checkpoints and weights
    (docs/python_api.md); by default, NAS_FOLDER says so. `trials` is how many trials are trained in all, earlier
    launches included. `time` is the longest duration ("30m", or seconds). `ray_address` joins a Ray cluster,
    "HOST:PORT" or "auto" (docs/guides/ray_cluster.md); without it, trials run on this machine. `observer` is called
    with every event, a plain dict with a `type`, in the thread that searches. `body` is a training of your own, a
    function or "module:function" (docs/own_training.md); by default it is the one that the file names, if any. Nothing
    is printed and no report is written: `Study.write_report()` writes one.

    Ctrl-C, or an interrupted notebook cell, saves the running trials. Then KeyboardInterrupt is raised, and `resume`
    continues. Outside the main thread, signals are left alone: `Study.stop()` ends the search.

    Raises UsageError, InvalidStudyFile or DataError for wrong arguments, files or data. Raises Conflict when the study
    was made with other settings or a driver of an earlier version searches it. Raises OutOfReach when the disk, the
    database or Ray fails. Raises TooManyFailures when too many trials failed, and NothingFeasible when the search ended
    and no trained trial meets the constraints.
    """
    place = database_place(storage)
    renamed = [] if study is None else [f"name={study!r}"]
    if isinstance(file, StudyFile):
        if renamed:
            study_file.parse(file.to_toml(), renamed)  # checks the name
        settings, source = file.model_copy(update={"name": study}) if renamed else file, "the study file"
    else:
        settings, source = study_file.load(file, renamed), str(file)
    launch = checked(
        trials,
        time,
        cpus,
        gpus,
        executor,
        max_fail_rate,
        ray_address=ray_address,
        source=source,
        command="nas.search(...)",
        hosted=True,
        folder=folder,
    )
    return _search(settings, runs_folder() / settings.name, launch, observer, body, place)


def resume(
    study: str | Path | Study,
    *,
    storage: str | DatabasePlace | None = None,
    folder: str | Path | FolderPlace | None = None,
    trials: int | None = None,
    retry_failed: bool = False,
    time: str | float | None = None,
    cpus: float | None = None,
    gpus: float | None = None,
    executor: Executor = "ray",
    ray_address: str | None = None,
    max_fail_rate: float = 0.5,
    observer: Observer | None = None,
    body: BodyFunction | str | None = None,
) -> Study:
    """Continues a stored study, however its last driver ended. All else is as in `search`.

    A study with a `body` of its own needs it again, since a stored study never runs code (Conflict without it). A value
    of `trials` above the stored one extends the study. `retry_failed` first runs the failed trials once more.
    """
    where = (study.folder, study.storage or LOCAL) if isinstance(study, Study) else (study, storage)
    if folder is None and isinstance(study, Study):
        folder = study.named_folder
    file, own, place = stored_settings(*where)
    launch = checked(
        trials,
        time,
        cpus,
        gpus,
        executor,
        max_fail_rate,
        ray_address=ray_address,
        retry_failed=retry_failed,
        source=str(own / "study.toml"),
        command="nas.resume(...)",
        hosted=True,
        folder=folder,
    )
    return _search(file, own, launch, observer, body, place)


def stored_settings(
    study: str | Path, storage: str | DatabasePlace | None = None, source: str = "storage"
) -> tuple[StudyFile, Path, DatabasePlace | None]:
    """Returns the settings of a stored study, its folder, and the database that holds it where that is on a server."""
    stored = stored_study.open_study(study, storage, source)
    try:
        return stored.file, stored.folder, stored.place
    finally:
        stored.store.close()


def run(
    file: StudyFile,
    folder: Path,
    launch: Launch,
    observer: Observer,
    body: BodyFunction | str | None = None,
    place: DatabasePlace | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    at_end: AtEnd = lambda study: None,
) -> Outcome:
    """Runs a launch over the study in `place`, or else over that in the folder. `at_end`, and errors: `driver.run`.

    Workers get neither the address nor a password.
    """
    if place is None:
        return driver.run(file, folder, launch, observer, body, should_stop=should_stop, at_end=at_end)
    refuse_folder_of_another(folder)
    with closing(Database(place)) as database, without_variables(SECRET_VARIABLES):
        return driver.run(file, folder, launch, observer, body, database, should_stop, at_end)


def _search(
    file: StudyFile,
    folder: Path,
    launch: Launch,
    observer: Observer | None,
    body: BodyFunction | str | None,
    place: DatabasePlace | None,
) -> Study:
    """Runs the search, then passes a signal that arrived meanwhile on to the host program."""
    watched = Watched(observer)
    with keep_log(folder):
        outcome = run(file, folder, launch, watched, body, place, lambda: watched.error is not None)
    if watched.error is not None:
        raise watched.error
    if outcome.signal is not None and threading.current_thread() is threading.main_thread():
        _deliver(outcome)
    refuse_bad_end(outcome)
    found = stored_study.open_study(folder, place or LOCAL, run_folder=launch.folder)
    return Study(found, str(outcome.end) if outcome.end else None)


def _deliver(outcome: Outcome) -> None:
    """Raises the signal once more, now that all is saved: the host program's own handler decides what follows."""
    try:
        signal.raise_signal(outcome.signal or 0)
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(f"Running trials are saved: nas.resume({outcome.study.address!r}) continues.")
        raise


def refuse_bad_end(outcome: Outcome) -> None:
    """Raises TooManyFailures or NothingFeasible where a search ended so, and NasError where every training failed."""
    record, study = outcome.study.record(), outcome.study.in_commands
    failed = [t for t in record.trials if t.state == "FAIL"]
    help, cause = _help(record, study, failed), _latest(failed)
    if outcome.end is End.FAILURES:
        raise TooManyFailures(_told(failed), detail=cause, help=help)
    trained = [t for t in record.trials if t.trained]
    if outcome.end is not None and failed and not trained:
        text = f"no trial was trained to its end, and {_told(failed)}"
        raise NasError(text, code="all-failed", detail=cause, help=help)
    if outcome.end is not None and not pareto.front_of(record):
        limits = [f"constraints: {'; '.join(map(str, record.constraints))}"] if record.constraints else []
        detail = "\n".join([*limits, *([_told(failed)] if failed else [])])
        disturbed = sum(trial.contended and not trial.feasible for trial in record.trials)
        unsure = f"other programs disturbed {disturbed} measurements: {record.go_on(study)}   takes them again"
        raise NothingFeasible(
            "no trial was trained to its end within the constraints", detail=detail, help=unsure if disturbed else ""
        )


def _help(record: StudyRecord, study: str, failed: Sequence[TrialResult]) -> str:
    """Tells how to see the failures, and how to run them once more."""
    retried = f"nas resume {study} --retry failed"
    if record.body:
        retried = f"nas.resume({study!r}, body=..., retry_failed=True)   in Python"
    shown = f"nas show {study} {failed[-1].number}   shows the last one\n" if failed else ""
    return f"{shown}{retried}   runs them once more"


def _latest(failed: Sequence[TrialResult]) -> str:
    """Tells what the last trial failed of; empty where it left no message."""
    cause = cause_of(failed[-1].detail) if failed else ""
    return f"trial {failed[-1].number}: {cause}" if cause else ""


def _told(failed: Sequence[TrialResult]) -> str:
    """Tells how many failed for which reasons: `3 trials failed (2 nan, 1 oom)`."""
    reasons = Counter(str(trial.reason) for trial in failed)
    counts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    return f"{len(failed)} {'trial' if len(failed) == 1 else 'trials'} failed ({counts})"
