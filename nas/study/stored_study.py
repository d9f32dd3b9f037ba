"""A stored study, opened for reading: what `open_study` gives to notebooks, commands and the report.

A study lives in a folder: `study.db` (the truth), `study.toml` (the resolved file), `environment.json`,
`trials/NUMBER/`. Folders stand under `runs/`, or where NAS_RUNS says.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from nas import pareto
from nas.errors import Conflict, UsageError, nearest
from nas.results import ATTENTION_MAPS, StudyRecord, TrialResult
from nas.settings.study_file import StudyFile
from nas.study.store import UNMADE, Store, sqlite_url, to_result

if TYPE_CHECKING:
    import pandas as pd

REMEASURED, CONFIRMED = "remeasured:", "confirmed:"


def runs_folder() -> Path:
    """`runs/` under the current folder, unless NAS_RUNS names another."""
    return Path(os.environ.get("NAS_RUNS", "runs"))


def open_study(name_or_path: str | Path, storage: str | None = None) -> "StoredStudy":
    """A study by its name under `runs/`, or by the path of its folder. Raises UsageError when there is none."""
    folder = Path(name_or_path)
    if not _holds_study(folder):
        folder = runs_folder() / str(name_or_path)
    if storage is None and not _holds_study(folder):
        names = sorted(path.parent.name for path in runs_folder().glob("*/study.db"))
        help = nearest(str(name_or_path), names) if names else "no study yet: nas search search_spaces/tiny_lm.toml"
        raise UsageError(f"no study '{name_or_path}'", code="no-such-study", where=f"{folder}/study.db", help=help)
    return StoredStudy(folder, Store.open(storage or sqlite_url(folder), folder.name if storage else None))


def _holds_study(folder: Path) -> bool:
    """Tells whether the folder has a database, as far as one may look: no name of 300 characters is on any disk."""
    try:
        return (folder / "study.db").is_file()
    except (OSError, ValueError):
        return False


def is_running(folder: Path) -> bool:
    """Tells whether a driver holds the folder's lock."""
    if not (folder / "driver.lock").exists():
        return False
    try:
        with FileLock(folder / "driver.lock", timeout=0):
            return False
    except Timeout:
        return True


class StoredStudy:
    """Reads the rows anew at each call, so that it shows a running search too."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store, self.name = folder, store, folder.name

    @property
    def address(self) -> str:
        """Returns what a command takes as STUDY: the name where that is enough, else the folder."""
        return self.name if self.folder == runs_folder() / self.name else str(self.folder)

    @cached_property
    def file(self) -> StudyFile:
        """The settings with which the study was created."""
        settings = self.store.attributes().get("settings")
        if settings is None:
            raise Conflict(f"study '{self.name}' has no settings", code="half-created", help=UNMADE)
        return StudyFile.model_validate(settings)

    def require_built_in(self, command: str) -> None:
        """Raises UsageError where trials ran a body of the user's own, which builds no model that is known here."""
        if trial := self.file.trial:
            raise UsageError(
                f"`{command}` knows the built-in training alone; study '{self.name}' has its own, '{trial.body}'",
                code="own-training",
                help=f"the folders of its front hold what that function saved: {self.folder}/trials/NUMBER",
            )

    def record(self) -> StudyRecord:
        """Everything that is stored, as plain values; the newest measurement of each trial."""
        file, attributes = self.file, self.store.attributes()
        newer = {int(k.removeprefix(REMEASURED)): v for k, v in attributes.items() if k.startswith(REMEASURED)}
        constraints = file.constraint_list()
        return StudyRecord(
            name=self.name,
            objectives=file.objective_list(),
            constraints=constraints,
            trials=tuple(to_result(row, constraints, newer.get(row.number, {})) for row in self.store.rows()),
            settings=file.resolved(),
            environment=attributes.get("environment", {}),
            data=attributes.get("data", {}),
            budget=attributes.get("budget", file.search.trials),
            created=attributes.get("created", 0.0),
            own_metrics=file.own_metrics(),
            confirmed=_confirmed(attributes),
        )

    def record_for_report(self) -> StudyRecord:
        """Returns the record with the attention maps of the front: files of some size, which nothing else reads."""
        record = self.record()
        files = {t.number: self.trial_folder(t.number) / ATTENTION_MAPS for t in pareto.front_of(record)}
        maps = {
            number: json.loads(file.read_text(encoding="utf-8")) for number, file in files.items() if file.is_file()
        }
        return replace(record, attention_maps=maps)

    def trials(self) -> tuple[TrialResult, ...]:
        return self.record().trials

    def front(self) -> tuple[TrialResult, ...]:
        """Non-dominated, feasible, fully trained trials, best first by the first objective."""
        return pareto.front_of(self.record())

    def trial(self, number: int) -> TrialResult:
        """Raises UsageError when there is no such trial."""
        trials = self.trials()
        if not 0 <= number < len(trials):
            help = f"it has trials 0 to {len(trials) - 1}" if trials else "it has no trial yet"
            raise UsageError(f"study '{self.name}' has no trial {number}", code="no-such-trial", help=help)
        return trials[number]

    def trial_folder(self, number: int) -> Path:
        return self.folder / "trials" / str(number)

    def to_frame(self) -> "pd.DataFrame":
        """One row a trial: number, state, reason, architecture, choices, metrics."""
        import pandas as pd

        rows = []
        for trial in self.trials():
            row = {"number": trial.number, "state": str(trial.state), "reason": trial.reason}
            row |= {"architecture_id": trial.architecture_id, "architecture": trial.described}
            rows.append(row | {f"params.{k}": v for k, v in trial.params.items()} | dict(trial.metrics))
        return pd.DataFrame(rows)

    def remeasured(self, number: int, metrics: Mapping[str, float]) -> None:
        """Keep a later measurement of a finished trial; front and report use the newest."""
        self.store.set_attribute(f"{REMEASURED}{number}", dict(metrics))


def _confirmed(attributes: Mapping[str, Any]) -> dict[int, dict[str, dict[str, float]]]:
    found: dict[int, dict[str, dict[str, float]]] = {}
    for key, metrics in attributes.items():
        if key.startswith(CONFIRMED):
            number, seed = key.removeprefix(CONFIRMED).split(":")
            found.setdefault(int(number), {})[seed] = metrics
    return found
