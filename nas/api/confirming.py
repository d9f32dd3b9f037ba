"""Confirms a stored study from Python: checks the options, and raises errors and signals as a search does."""

import signal
import threading
from collections.abc import Callable, Iterable
from contextlib import closing

from nas import bounds
from nas.api.launching import Observer, Watched, checked
from nas.body import BodyFunction
from nas.errors import UsageError
from nas.running import confirming
from nas.running.closing import AtEnd
from nas.running.confirmation_session import Ended, Wish
from nas.running.launch import Launch
from nas.running.study_log import keep_log
from nas.study.database_place import SECRET_VARIABLES
from nas.study.run_folders import FolderPlace
from nas.study.stored_study import StoredStudy
from nas.study.transactions import Database
from nas.surroundings import without_variables


def wish_of(seeds: int, most: int, where: Iterable[str], steps: int | None, here: bool) -> Wish:
    """Returns what is asked of a confirmation. Raises UsageError whose `where` is the option's name."""
    for name, value in (("seeds", seeds), ("most", most)):
        if not 1 <= value <= bounds.SEEDS:
            raise UsageError(f"{name} must be from 1 to {bounds.SEEDS}, got {value}", where=name)
    if steps is not None and not 1 <= steps <= bounds.STEPS:
        raise UsageError(f"steps must be from 1 to {bounds.STEPS:,}, got {steps}", where="steps")
    if seeds > most:
        text = f"seeds must be at most {most}, which is the most that a member may get, got {seeds}"
        raise UsageError(text, where="seeds", help="raise --most, or give fewer --seeds")
    return Wish(seeds, most, tuple(where), steps, here)


def launch_of(
    budget: str | float | None,
    cpus: float | None,
    gpus: float | None,
    executor: str,
    ray_address: str | None,
    folder: FolderPlace | None,
    *,
    hosted: bool = False,
) -> Launch:
    """Returns the options as a Launch. Raises UsageError whose `where` is the option's name."""
    try:
        return checked(
            None,
            budget,
            cpus,
            gpus,
            executor,
            1.0,
            ray_address=ray_address,
            source="the stored study",
            command="nas confirm",
            hosted=hosted,
            folder=folder,
        )
    except UsageError as error:
        if error.where != "time":
            raise
        raise UsageError(error.message.replace("a time", "a budget"), where="budget", help=error.help) from None


def run(
    stored: StoredStudy,
    wish: Wish,
    launch: Launch,
    observer: Observer,
    body: BodyFunction | str | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    at_end: AtEnd = lambda study: None,
) -> Ended:
    """Runs one launch of a confirmation; see nas.running.confirming. Workers get no address of a database."""
    if stored.place is None:
        return confirming.run(stored, wish, launch, observer, body, None, should_stop, at_end)
    with closing(Database(stored.place)) as database, without_variables(SECRET_VARIABLES):
        return confirming.run(stored, wish, launch, observer, body, database, should_stop, at_end)


def confirm(
    stored: StoredStudy, wish: Wish, launch: Launch, observer: Observer | None, body: BodyFunction | str | None
) -> Ended:
    """Confirms a study: see `nas.api.study.Study.confirm`."""
    watched = Watched(observer)
    with keep_log(stored.folder):
        ended = run(stored, wish, launch, watched, body, lambda: watched.error is not None)
    if watched.error is not None:
        raise watched.error
    if ended.signal is not None and threading.current_thread() is threading.main_thread():
        signal.raise_signal(ended.signal)
    return ended
