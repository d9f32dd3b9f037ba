"""A stored study as Python users hold it: its trials, its front, its report, and training one of its architectures."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas import pareto
from nas.errors import Conflict, NasError
from nas.report.folder import report_folder
from nas.results import StudyRecord, TrialResult
from nas.running.stop_control import request_stop
from nas.settings.study_file import StudyFile
from nas.study import stored_study
from nas.study.limits import within
from nas.study.standing import standing
from nas.study.stored_study import StoredStudy, is_running, runs_folder, study_names

if TYPE_CHECKING:
    import pandas as pd

    from nas.api.model import Model


class Study:
    """A stored study. Every call reads the database anew, so that it shows a running search too."""

    def __init__(self, stored: StoredStudy, end: str | None = None) -> None:
        self._stored = stored
        self.end = end
        """The reason why the search that returned this study ended; None when it was told to stop, or when none ran
        here."""

    def __repr__(self) -> str:
        return f"<nas.Study {self.name!r} in {self.folder}>"

    @property
    def name(self) -> str:
        return self._stored.name

    @property
    def folder(self) -> Path:
        """The folder that holds the study: `study.db`, `study.toml`, `environment.json`, `trials/`, `trained/`."""
        return self._stored.folder

    @property
    def file(self) -> StudyFile:
        """The settings with which the study was created."""
        return self._stored.file

    def record(self) -> StudyRecord:
        """Everything that is stored, as plain values."""
        return self._stored.record()

    def trials(self) -> tuple[TrialResult, ...]:
        """All trials, by number: those that run or wait, failed, or were never trained, too."""
        return self._stored.trials()

    def trial(self, number: int) -> TrialResult:
        """One trial. Raises UsageError when there is no such trial."""
        return self._stored.trial(number)

    def front(self, where: Iterable[str] = ()) -> tuple[TrialResult, ...]:
        """The feasible, fully trained trials that no other dominates, best first by the first objective.

        `where` holds limits such as "decode_ms_per_token<=0.3" on any stored metric. The front is taken of the trials
        within all of them. Raises UsageError for an unknown metric, and NothingFeasible with the nearest value when no
        trial is within the limits. Without limits, a study that has no such trial has an empty front.
        """
        limits = _listed(where)
        return pareto.front_of(within(self.record(), limits) if limits else self.record())

    def status(self) -> dict[str, Any]:
        """Tells how far the study is, as `nas status --json` prints it: `running`, `trained`, `budget`, `states` ..."""
        return standing(self._stored)

    def to_frame(self) -> "pd.DataFrame":
        """One row a trial, with the columns of the report's trials.csv: choices, metrics, and whether on the front."""
        from nas.report import tables

        return tables.to_frame(self.record())

    def stop(self, now: bool = False) -> None:
        """Ask the driver that searches this study, in whatever thread or process, to end; return at once.

        Running trials finish, or save and stop with `now`. Raises Conflict when no search is running.
        """
        if not is_running(self.folder):
            help = f"nas resume {self._stored.address}"
            raise Conflict(f"study '{self.name}' is not running", code="not-running", help=help)
        request_stop(self.folder, now)

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
        """Train the architecture of a trial by itself, test it, keep its weights, and return the model.

        `steps` and `seed` are those of the search unless given, which repeats the trial. `overrides` change keys of
        [train], as in "train.learning_rate=0.01", or task.split. `out` is the folder to write, by default
        `trained/NUMBER-sSEED-STEPS` in the study's own. A training that is there already is loaded; one that was
        interrupted goes on. `observer` is called with each event of the training.

        A KeyboardInterrupt is raised when all is saved. Raises UsageError for a trial or a key that there is not,
        Conflict when the data has changed or the folder holds something else, Diverged when training diverges.
        """
        from nas.api.training import train

        where = None if out is None else Path(out)
        return train(self._stored, number, steps, seed, overrides, where, device, observer)

    def model(self, number: int) -> "Model":
        """The newest weights of a trial: what `train` wrote, else what the search kept for its front.

        Raises UsageError when there are none.
        """
        from nas.api.model import load_model
        from nas.study.trained_weights import weights_of

        return load_model(weights_of(self._stored, number))

    def write_report(self, out: Path | str | None = None) -> Path:
        """Write the report, by default into `reports/NAME/`, and return the path of its page.

        Raises Conflict when the folder holds something else than a report, OutOfReach when the disk refuses.
        """
        from nas import report

        folder = report_folder(self.name) if out is None else Path(out)
        return report.write(self._stored.record_for_report(), folder)

    def close(self) -> None:
        """Give the database's connections back. The study can still be used, which opens them again."""
        self._stored.store.close()


def open_study(name_or_path: str | Path, storage: str | None = None) -> Study:
    """Open a stored study by its name under `runs/`, or by the path of its folder.

    Raises UsageError when there is none, Conflict when it was never made whole, OutOfReach when it cannot be read.
    """
    return Study(stored_study.open_study(name_or_path, storage))


def studies() -> list[dict[str, Any]]:
    """The studies under `runs/`, as `nas list --json` prints them. One that cannot be read has an `error` instead."""
    return [_row(runs_folder() / name) for name in study_names()]


def _row(folder: Path) -> dict[str, Any]:
    try:
        now = open_study(folder).status()
    except NasError as error:
        return {"study": folder.name, "error": error.message}
    return {key: now[key] for key in ("study", "trained", "budget", "front", "running", "created")}


def _listed(where: Iterable[str]) -> list[str]:
    """The limits as a list; a lone string is one limit, not a sequence of letters."""
    return [where] if isinstance(where, str) else list(where)
