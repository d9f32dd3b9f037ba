"""Confirms a study: trains its front again with new seeds, measures it again, and tests what remains.

It runs as a search runs: the same executors, database, leases, take-over and stops. It counts in no budget of the
search.
"""

from collections.abc import Callable
from dataclasses import replace

from nas import temporary_folders
from nas.body import BodyFunction
from nas.data.place import with_absolute_corpus
from nas.errors import Conflict, UsageError
from nas.folders import require_current_folder
from nas.running import own_body
from nas.running.closing import AtEnd
from nas.running.confirmation_session import Ended, Session, Wish
from nas.running.confirmed_trials import chosen
from nas.running.events import Observer, waiting
from nas.running.launch import Launch
from nas.running.membership import joined, leave, stop_control
from nas.running.own_body import OwnBody
from nas.running.placed import placed
from nas.running.placement import Placement, refuse_network
from nas.running.same_study import require_recipe
from nas.settings.study_file import StudyFile
from nas.study import creation, run_folders
from nas.study.database_time import database_clock
from nas.study.drivers import CONFIRMING, Drivers, Heartbeat
from nas.study.leases import Leases
from nas.study.lock import driver_lock
from nas.study.spool import Spool
from nas.study.store import Store
from nas.study.stored_study import StoredStudy
from nas.study.transactions import Database
from nas.training.recipe import same_task
from nas.training.torch_state import borrowed_torch


def run(
    stored: StoredStudy,
    wish: Wish,
    launch: Launch,
    observer: Observer = lambda event: None,
    body: BodyFunction | str | None = None,
    database: Database | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    at_end: AtEnd = lambda study: None,
) -> Ended:
    """Confirms a stored study, as a driver of its own; `nas confirm` does so. The arguments are those of `driver.run`.

    Raises as `Session.confirm`; Conflict too while a search is under way, where the data has changed, and where a body
    of the user's own is missing.
    """
    require_current_folder()
    if not 1 <= wish.seeds <= wish.most:
        text = f"seeds must be from 1 to the most of {wish.most}, got {wish.seeds}"
        raise UsageError(text, where="seeds", help="raise --most, or give fewer --seeds")
    chosen(stored.record(), wish.where)
    file, own = _with_body(stored, body)
    try:
        with placed(file, launch.cpus, launch.gpus, launch.ray_address, observer) as placement:
            described = placement.cluster.environment if placement.cluster else None
            launch = replace(launch, described=described)
            return _run(stored, file, own, wish, launch, placement, observer, database, should_stop, at_end)
    finally:
        temporary_folders.sweep()


def _with_body(stored: StoredStudy, body: BodyFunction | str | None) -> tuple[StudyFile, OwnBody | None]:
    """Returns the study's file and its body. Raises Conflict where that is the user's own, and is not given."""
    file = stored.file
    if file.trial and body is None:
        raise Conflict(
            f"study '{stored.name}' has a body of its own, '{file.trial.body}', and a stored study never runs code",
            code="body-missing",
            where="trial.body",
            help=f"nas.open_study({stored.address!r}).confirm(body=...)   in Python, with the body of the search",
        )
    if file.trial is None and body is not None:
        text = f"study '{stored.name}' was searched with the built-in training, and not with a body"
        raise UsageError(text, code="no-body", where="body", help="leave it out")
    if file.trial is None:
        require_recipe(stored.name, file.train.recipe)
    return own_body.chosen(file, body)


def _run(
    stored: StoredStudy,
    file: StudyFile,
    own: OwnBody | None,
    wish: Wish,
    launch: Launch,
    placement: Placement,
    observer: Observer,
    database: Database | None,
    should_stop: Callable[[], bool],
    at_end: AtEnd,
) -> Ended:
    folder = stored.folder
    file = with_absolute_corpus(placement.fitted(file))
    creation.refuse_foreign(folder)
    refuse_network(folder)
    if own is None:
        observer(waiting("data"))
        same_task(stored.name, file, stored.record().data)
    with driver_lock(folder), borrowed_torch():
        store = _to_write(stored, file, database)
        try:
            clock = database_clock(store.database)
            spool = Spool(folder, store.name, len(file.objective_list()))
            leases = joined(store, stored.record().budget, launch, spool, clock, confirms=True)
            with Heartbeat(Drivers(leases.jobs), leases.driver) as heartbeat:
                try:
                    refuse_running(leases, store)
                    control = stop_control(folder, launch, leases, heartbeat, observer, should_stop)
                    kept = run_folders.to_run(store, folder, launch.folder, leases)
                    server = database.server if database else None
                    study = StoredStudy(folder, store, server, run_folder=kept, named=launch.folder)
                    session = Session(
                        study,
                        file,
                        own,
                        launch,
                        placement,
                        control,
                        observer,
                        leases,
                        clock,
                        lambda: heartbeat.expired,
                        at_end,
                    )
                    with control.signals():
                        return session.confirm(wish)
                finally:
                    leave(leases)
        finally:
            store.close()


def _to_write(stored: StoredStudy, file: StudyFile, database: Database | None) -> Store:
    """Opens the database to write. Raises Conflict where the study is gone."""
    store = creation.open_to_write(stored.folder, stored.name, file.objective_list(), database)
    if store is None:
        raise Conflict(f"study '{stored.name}' is gone", code="no-such-study", help="nas list   shows the studies")
    return store


def refuse_running(leases: Leases, store: Store) -> None:
    """Raises Conflict while a search of the study is under way: its front may still change."""
    # The drivers first: one that registers after this look is not among them, and each that is has its mark.
    living = [driver for driver in Drivers(leases.jobs).all() if driver.lives and not driver.ended]
    confirm = {key.removeprefix(CONFIRMING) for key in store.attributes() if key.startswith(CONFIRMING)}
    if any(driver.id not in confirm for driver in living):
        name = store.name
        help = f"nas status {name}   shows it\nnas stop {name}   ends it; then confirm its front"
        raise Conflict(f"study '{name}' is being searched, so its front may change", code="locked", help=help)
