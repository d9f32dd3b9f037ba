"""Reads a stored study: what `open_study` gives to notebooks, commands and the report.

A study is a folder: `study.db` (the truth), `study.toml` (the resolved file), `environment.json`, `trials/NUMBER/`. The
folders are under `runs/`, or where NAS_RUNS says.
"""

import os
import shlex
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial

from nas import files, intervals, pareto
from nas.errors import Conflict, OutOfReach, UsageError, nearest
from nas.folders import absolute, names_in, refuse_closed
from nas.results import ATTENTION_MAPS, State, StudyRecord, TrialResult
from nas.settings.study_file import StudyFile
from nas.study import checked, server_studies
from nas.study.checked import RACE, WORKED
from nas.study.database import DATABASE, UNMADE
from nas.study.database_place import DatabasePlace, database_place
from nas.study.run_folders import LOCAL, OPTION, FolderPlace, folder_place, stored_place, to_read
from nas.study.store import Store, to_result
from nas.study.stored_confirmations import confirmed
from nas.trial_files import RunFolder

if TYPE_CHECKING:
    import pandas as pd

MOST_MAPS_BYTES = 64 * 2**20
"""The attention maps of one trial are never larger."""


def runs_folder() -> Path:
    """Returns `runs/` in the current folder, unless NAS_RUNS names another."""
    return Path(os.environ.get("NAS_RUNS", "runs"))


def study_names() -> list[str]:
    """Returns the names of the studies under `runs/` that this user may see. Raises OutOfReach where `runs/` is closed.

    Folders in it that are closed to this user are left out: they may be another user's.
    """
    runs = runs_folder()
    return [name for name in names_in(runs) if not name.startswith(".") and _stands(runs / name)]


def open_study(
    name_or_path: str | Path,
    storage: str | DatabasePlace | None = None,
    source: str = "storage",
    *,
    run_folder: str | Path | FolderPlace | None = None,
) -> "StoredStudy":
    """Opens a study for reading, by its name or by the path of its folder.

    The study is in the database that `storage`, NAS_STORAGE or the user's configuration names, else under `runs/`. A
    path to a folder with a database of its own means that one, unless `storage` is given. `source` names `storage` in
    errors. `run_folder` is where its trials keep their files, if not in its own folder; by default, NAS_FOLDER says so.
    Raises UsageError when there is none, Conflict when it is not ours or is damaged, and OutOfReach.
    """
    named = folder_place(run_folder)
    folder = Path(name_or_path)
    place = database_place(storage, source)
    if place is not None and (place.chosen or len(folder.parts) < 2 or not _stands(folder)):
        folder = folder_of(name_or_path)
        return StoredStudy(folder, server_studies.opened(place, folder.name), place, named=named)
    if not _stands(folder):
        folder = runs_folder() / str(name_or_path)
    if not _stands(folder):
        refuse_closed(folder / DATABASE)
        names = study_names()
        help = nearest(str(name_or_path), names) if names else "no study yet: nas search search_spaces/tiny_lm.toml"
        raise UsageError(f"no study '{name_or_path}'", code="no-such-study", where=f"{folder}/{DATABASE}", help=help)
    return StoredStudy(folder, Store.read(absolute(folder) / DATABASE), named=named)


def folder_of(name_or_path: str | Path) -> Path:
    """Returns the folder of a study that is stored elsewhere: under `runs/`, or where the path says."""
    folder = Path(name_or_path)
    return folder if len(folder.parts) > 1 else runs_folder() / folder


def refuse_folder_of_another(folder: Path) -> None:
    """Raises Conflict where the folder, meant for a study on a server, holds a study with a database of its own."""
    if _stands(folder):
        help = "set NAS_RUNS to another folder, choose another name, or move that study's folder away"
        raise Conflict(of_another(folder), code="other-folder", where=str(folder), help=help)


def of_another(folder: Path) -> str:
    """Tells that the folder belongs to another study."""
    return f"{folder} belongs to another study, whose rows are in its {DATABASE}"


def _stands(folder: Path) -> bool:
    """Tells whether a study's database, or something of that name, stands in the folder and this user may see it."""
    try:
        return os.path.lexists(folder / DATABASE)
    except ValueError:  # a name that no folder can have
        return False


class StoredStudy:
    """Reads a stored study; every call reads the rows again, so it shows a running search too."""

    def __init__(
        self,
        folder: Path,
        store: Store,
        place: DatabasePlace | None = None,
        *,
        run_folder: RunFolder | None = None,
        named: FolderPlace | None = None,
    ) -> None:
        """`place` is the server's database that holds the study, where `store` is not of the folder's own. `run_folder`
        is where the trials keep their files, if a driver found it; `named` is what the user says.
        """
        self.folder, self.store, self.name, self.place = folder, store, folder.name, place
        self.named, self._known = named, run_folder

    @property
    def address(self) -> str:
        """Returns what a command takes as STUDY: the name where that is enough, else the folder."""
        return self.name if self.folder == runs_folder() / self.name else str(self.folder)

    @property
    def in_commands(self) -> str:
        """Returns what a command line needs to name the study: its address, with --storage and --folder if given."""
        storage = f" --storage {shlex.quote(str(self.place))}" if self.place is not None and self.place.chosen else ""
        named = self.named
        folder = f" {OPTION} {shlex.quote(named.text or LOCAL)}" if named is not None and named.chosen else ""
        return shlex.quote(self.address) + storage + folder

    @property
    def missing_files(self) -> str:
        """Tells why this machine has no files of the study, such as weights; empty where it has its folder.

        Only a study on a server can lack them. A folder with a database of its own is another study's.
        """
        if self.place is None:
            return ""
        if _stands(self.folder):
            return of_another(self.folder)
        return "" if self.folder.is_dir() else f"this machine has no folder {self.folder}"

    @property
    def run_folder(self) -> RunFolder:
        """Returns where the trials keep their files. Raises OutOfReach where that cannot be reached from here."""
        if (found := self._found[0]) is None:
            raise OutOfReach(self.files_elsewhere, code="folder")
        return found

    @property
    def files_elsewhere(self) -> str:
        """Tells where the files of trials are, if they cannot be reached from here; empty where they can."""
        return self._found[1]

    @property
    def stored_folder(self) -> str | None:
        """Returns the place where trials keep their files, as a launch named it; None for the study's own folder."""
        stored = stored_place(self.store.attributes())
        return None if stored is None else stored["place"]

    @cached_property
    def _found(self) -> tuple[RunFolder | None, str]:
        if self._known:
            return self._known, ""
        found, why = to_read(self.store, self.folder, self.named)
        here = found is not None and not found.identity
        return (None, self.missing_files) if here and self.missing_files else (found, why)

    @cached_property
    def file(self) -> StudyFile:
        """Returns the settings with which the study was created."""
        attributes = self.store.attributes()
        if "settings" not in attributes:
            raise Conflict(f"study '{self.name}' has no settings", code="half-created", help=UNMADE)
        return checked.settings(attributes)

    def require_built_in(self, command: str) -> None:
        """Raises UsageError where trials ran a body of the user's own, from which `nas` cannot build a model."""
        if trial := self.file.trial:
            raise UsageError(
                f"`{command}` supports only the built-in training; study '{self.name}' has its own, '{trial.body}'",
                code="own-training",
                help="the folders of its front hold what that function saved: "
                + (self.files_elsewhere or f"{self.run_folder.place}/trials/NUMBER"),
            )

    def require_own_folder(self) -> None:
        """Raises Conflict where the study's folder on this machine belongs to another study."""
        if self.place is not None:
            refuse_folder_of_another(self.folder)

    def record(self) -> StudyRecord:
        """Returns everything that is stored, as plain values, with the newest measurement of each trial."""
        file, attributes = self.file, self.store.attributes()
        newer = checked.remeasured(attributes)
        objectives, constraints = file.objective_list(), file.constraint_list()
        worked = tuple(intervals.union(tuple(v) for k, v in attributes.items() if k.startswith(WORKED)))
        how = {number: checked.measurement_of(attributes, number) for number in newer}
        trials = tuple(
            to_result(row, constraints, newer.get(row.number, {}), worked, how.get(row.number))
            for row in self.store.rows()
        )
        for trial in trials:
            missing = [o.metric for o in objectives if o.metric not in trial.metrics]
            if missing and trial.state is State.COMPLETE:
                checked.damaged(
                    f"trial {trial.number}", f"metrics.{missing[0]}", "nothing", "a number, as it is an objective"
                )
        return StudyRecord(
            name=self.name,
            objectives=objectives,
            constraints=constraints,
            trials=trials,
            settings=file.resolved(),
            environment=attributes.get("environment", {}),
            data=attributes.get("data", {}),
            budget=attributes.get("budget", file.search.trials),
            created=attributes.get("created", 0.0),
            worked=worked,
            own_metrics=file.own_metrics(),
            confirmed=confirmed(self.store).results,
            race=tuple(attributes[RACE]) if RACE in attributes else None,
        )

    def record_for_report(self) -> StudyRecord:
        """Returns the record with the attention maps of the front. Only the report reads these larger files."""
        record = self.record()
        if self.files_elsewhere:
            return record
        found = {t.number: self._attention_maps(t.number) for t in pareto.front_of(record)}
        return replace(record, attention_maps={number: maps for number, maps in found.items() if maps is not None})

    def _attention_maps(self, number: int) -> dict[str, Any] | None:
        """Reads the stored attention maps of a trial, checked; None where there are none."""
        kept = self.run_folder.trial(number)
        place = f"{kept.place}/{ATTENTION_MAPS}"
        try:
            stored = files.read_json(kept.fetch(ATTENTION_MAPS, MOST_MAPS_BYTES), MOST_MAPS_BYTES)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            help = "delete the file; the report does not need it"
            checked.damaged(place, "attention maps", str(error), "JSON", help)
        return checked.attention_maps(stored, place)

    def trials(self) -> tuple[TrialResult, ...]:
        return self.record().trials

    def front(self) -> tuple[TrialResult, ...]:
        """Returns the non-dominated, feasible, fully trained trials, best first by the first objective."""
        return pareto.front_of(self.record())

    def trial(self, number: int) -> TrialResult:
        """Returns one trial. Raises UsageError when there is no such trial."""
        return trial_of(self.record(), number)

    def trial_folder(self, number: int) -> Path:
        """Returns a trial's folder in the study's own. Raises Conflict where a link would lead out of it."""
        return files.refuse_links(self.folder, "trials", str(number))

    def to_frame(self) -> "pd.DataFrame":
        """Returns a data frame with one row a trial: number, state, reason, architecture, choices, metrics."""
        import pandas as pd

        rows = []
        for trial in self.trials():
            row = {"number": trial.number, "state": str(trial.state), "reason": trial.reason}
            row |= {"architecture_id": trial.architecture_id, "architecture": trial.described}
            rows.append(row | {f"params.{k}": v for k, v in trial.params.items()} | dict(trial.metrics))
        return pd.DataFrame(rows)


def first_number(row: FrozenTrial) -> int:
    """Returns the number under which the trial was trained, in this study or the one that it was taken from.

    The seed of its training follows from that number.
    """
    number: int = row.user_attrs.get("taken_from", {}).get("number", row.number)
    return number


def trial_of(record: StudyRecord, number: int) -> TrialResult:
    """Returns one trial of a record. Raises UsageError when there is no such trial."""
    trials = record.trials
    if not 0 <= number < len(trials):
        help = f"it has trials 0 to {len(trials) - 1}" if trials else "it has no trial yet"
        raise UsageError(f"study '{record.name}' has no trial {number}", code="no-such-trial", help=help)
    return trials[number]
