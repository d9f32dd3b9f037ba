"""A stored study for Python users: its trials, its front, its report, and the training of its architectures."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas import pareto
from nas.confirmation import Confirmation
from nas.errors import Conflict, NasError, UsageError
from nas.folders import require_current_folder
from nas.report.folder import report_folder
from nas.results import StudyRecord, TrialResult
from nas.running.stop_control import request_stop
from nas.settings.study_file import StudyFile
from nas.study import stored_study
from nas.study.database_place import LOCAL, DatabasePlace, database_place
from nas.study.deleting import delete
from nas.study.drivers import StopRequest
from nas.study.limits import within
from nas.study.listing import listing
from nas.study.lock import is_running as is_locked
from nas.study.run_folders import FolderPlace
from nas.study.server_studies import refuse_name, studies_in
from nas.study.standing import standing
from nas.study.stored_study import StoredStudy, runs_folder, study_names
from nas.study.study_drivers import ask_to_stop

if TYPE_CHECKING:
    import pandas as pd

    from nas.api.model import Model
    from nas.body import BodyFunction
    from nas.report.health import Health


class Study:
    """Gives access to a stored study. Every call reads the database again, so it shows a running search too."""

    def __init__(self, stored: StoredStudy, end: str | None = None) -> None:
        self._stored = stored
        self.end = end
        """The reason why the search that returned this study ended. None when it was told to stop, or when no search
        ran here.
        """

    def __repr__(self) -> str:
        return f"<nas.Study {self.name!r} in {self.folder}>"

    @property
    def name(self) -> str:
        return self._stored.name

    @property
    def folder(self) -> Path:
        """Returns the study's folder: `study.db`, `study.toml`, `environment.json`, `trials/`, `trained/`."""
        return self._stored.folder

    @property
    def storage(self) -> DatabasePlace | None:
        """Returns the database on a server that holds the study; None for a study in its folder."""
        return self._stored.place

    @property
    def named_folder(self) -> FolderPlace | None:
        """Returns where the trials keep their files, as it was named; None for the study's own folder."""
        return self._stored.named

    @property
    def files_elsewhere(self) -> str:
        """Tells where the files of trials are, if they cannot be reached from here; empty where they can."""
        return self._stored.files_elsewhere

    @property
    def file(self) -> StudyFile:
        """Returns the settings with which the study was created."""
        return self._stored.file

    def record(self) -> StudyRecord:
        """Returns everything that is stored, as plain values."""
        return self._stored.record()

    def trials(self) -> tuple[TrialResult, ...]:
        """Returns all trials by number. It includes trials that run, wait or failed, and those never trained."""
        return self._stored.trials()

    def trial(self, number: int) -> TrialResult:
        """Returns one trial. Raises UsageError when there is no such trial."""
        return self._stored.trial(number)

    def front(self, where: Iterable[str] = ()) -> tuple[TrialResult, ...]:
        """Returns the feasible, fully trained trials that no other dominates, best first by the first objective.

        `where` holds limits such as "decode_ms_per_token<=0.3" on any stored metric. The front is computed from the
        trials that meet all limits. Raises UsageError for an unknown metric, and NothingFeasible with the nearest value
        when no trial meets the limits. Without limits, a study that has no such trial has an empty front.
        """
        limits = _listed(where)
        return pareto.front_of(within(self.record(), limits) if limits else self.record())

    def status(self) -> dict[str, Any]:
        """Tells the study's progress, as `nas status --json` prints it: `running`, `trained`, `budget`, `states` and
        more.
        """
        return standing(self._stored)

    def health(self) -> "Health":
        """Checks whether this search can be trusted: a verdict (`ok`, `look`, `unknown`) and numbers for each question.

        `for check in study.health()` gives `name`, `verdict`, `text` and `numbers`; `study.health()["growth"]` gives
        one check by its name.
        """
        from nas.report.health import health_of

        return health_of(self.record())

    def to_frame(self) -> "pd.DataFrame":
        """Returns a data frame with one row a trial and the columns of the report's trials.csv: choices, metrics,
        `on_front`.
        """
        from nas.report import tables

        return tables.to_frame(self.record())

    def stop(self, now: bool = False, driver: str | None = None) -> int:
        """Asks the drivers of this study to end, in whatever thread, process or machine they run, and returns at once.

        Running trials are trained to their end; with `now` they save their state and stop. `driver` is the id of one
        driver, or how it begins, as `status()` tells it. Returns how many were asked. Raises Conflict when no search is
        running, and UsageError when no such driver is.
        """
        asked = len(ask_to_stop(self._stored, StopRequest.NOW if now else StopRequest.FINISH, driver))
        if driver is None and self.storage is None and is_locked(self.folder):
            request_stop(self.folder, now)
            asked += not asked
        if not asked:
            help = f"{self.record().go_on(self._stored.in_commands)}   continues it"
            raise Conflict(f"study '{self.name}' is not running", code="not-running", help=help)
        return asked

    def train(
        self,
        number: int,
        *,
        steps: int | None = None,
        seed: int | None = None,
        overrides: Sequence[str] = (),
        out: Path | str | None = None,
        device: str | None = None,
        observer: Callable[[dict[str, Any]], None] | None = None,
    ) -> "Model":
        """Trains the architecture of a trial by itself, tests it, keeps its weights, and returns the model.

        `steps` and `seed` are those of the search unless given, which repeats the trial. `overrides` change keys of
        [train], as in "train.learning_rate=0.01", or task.split. `out` is the folder to write; by default it is
        `trained/NUMBER-sSEED-STEPS` in the study's folder. A finished training is loaded, and an interrupted one
        continues. `observer` is called with each event of the training.

        A KeyboardInterrupt is raised once all is saved. Raises UsageError for an unknown trial or key, Conflict when
        the data has changed or the folder holds something else, and Diverged when training diverges.
        """
        require_current_folder()
        from nas.api.training import train

        where = None if out is None else Path(out)
        return train(self._stored, number, steps, seed, overrides, where, device, observer)

    def confirm(
        self,
        *,
        seeds: int = 3,
        most: int = 8,
        budget: str | float | None = None,
        where: Iterable[str] = (),
        steps: int | None = None,
        here: bool = False,
        cpus: float | None = None,
        gpus: float | None = None,
        executor: str = "ray",
        ray_address: str | None = None,
        observer: Callable[[dict[str, Any]], None] | None = None,
        body: "BodyFunction | str | None" = None,
    ) -> Mapping[int, Confirmation]:
        """Trains the front, and what it dominates by a little, with new seeds; measures it again, and tests the rest.

        Every member gets `seeds` at first; members that cannot be told apart from a neighbour get up to `most`. It goes
        on where an earlier call stopped, and returns what is known of each confirmed trial by number. `budget` is the
        longest duration ("20m", or seconds). `where` holds limits on the front, as in `front`. `steps` is the length of
        a training, that of the search by default. `here` allows other hardware than the study's. All else is as in
        `nas.search`; a study with a `body` of its own needs it again.

        Raises NothingFeasible for an empty front, UsageError for wrong options and for a budget that is too small for
        the first seeds, Conflict while the study is searched and where hardware or data differ, and OutOfReach.
        """
        require_current_folder()
        from nas.api.confirming import confirm, launch_of, wish_of

        wish = wish_of(seeds, most, _listed(where), steps, here)
        launch = launch_of(budget, cpus, gpus, executor, ray_address, self.named_folder, hosted=True)
        confirm(self._stored, wish, launch, observer, body)
        return self.record().confirmed

    def model(self, number: int) -> "Model":
        """Loads the newest weights of a trial: those that `train` wrote, else those that the search kept for its front.

        Raises UsageError when there are none.
        """
        require_current_folder()
        from nas.api.model import load_model
        from nas.study.trained_weights import weights_of

        with weights_of(self._stored, number) as folder:
            return load_model(folder)

    def write_report(self, out: Path | str | None = None) -> Path:
        """Writes the report, by default into `reports/NAME/`, and returns the path of its page.

        Raises Conflict when the folder holds something other than a report, and OutOfReach when the disk refuses the
        files.
        """
        from nas import report

        folder = report_folder(self.name) if out is None else Path(out)
        return report.write(self._stored.record_for_report(), folder)

    def delete(self) -> list[Path]:
        """Deletes the study: its rows, and what nas wrote into its folder. Returns what it left there.

        Raises Conflict while a driver searches it.
        """
        return delete(self._stored)

    def close(self) -> None:
        """Closes the connections to the database. Later calls open them again."""
        self._stored.store.close()


def open_study(
    name_or_path: str | Path,
    storage: str | DatabasePlace | None = None,
    source: str = "storage",
    *,
    folder: str | Path | FolderPlace | None = None,
) -> Study:
    """Opens a stored study by its name, or by the path of its folder, to read it.

    `storage` is the address of the PostgreSQL database that holds it, or "local" for studies under `runs/`. By default,
    NAS_STORAGE and the user's configuration say so (docs/commands.md). `source` names `storage` in errors. `folder` is
    the shared path or URL where its trials keep their files; by default, NAS_FOLDER says so. Raises UsageError when
    there is no such study, Conflict when its creation was cut short, and OutOfReach when it cannot be read.
    """
    return Study(stored_study.open_study(name_or_path, storage, source, run_folder=folder))


def studies(storage: str | DatabasePlace | None = None, source: str = "storage") -> list[dict[str, Any]]:
    """Lists the studies under `runs/`, or those in a database, as `nas list --json` prints them.

    `storage` and `source` are those of `open_study`. A study that cannot be read has an `error` instead.
    """
    place = database_place(storage, source)
    if place is None:
        return [_row(runs_folder() / name, None) for name in study_names()]
    return [_row(Path(each.name), place) for each in studies_in(place) if each.ours]


def _row(folder: Path, place: DatabasePlace | None) -> dict[str, Any]:
    try:
        if place is not None:
            refuse_name(str(folder), place)
        study = stored_study.open_study(folder, LOCAL if place is None else place)
        with closing(study.store):
            return listing(study)
    except NasError as error:
        return {"study": folder.name, "error": error.message}


def _listed(where: Iterable[str]) -> list[str]:
    """Returns the limits as a list; a lone string is one limit, not a sequence of letters."""
    limits = [where] if isinstance(where, str) or not isinstance(where, Iterable) else list(where)
    for limit in limits:
        if not isinstance(limit, str):
            help = 'for example ["decode_ms_per_token<=0.8"]'
            raise UsageError(f"expected limits as texts, got {limit!r:.80}", where="where", help=help)
    return limits
