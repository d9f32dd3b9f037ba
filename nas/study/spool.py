"""Keeps results that the database did not take, as files, until they can be told.

A result may be all that is left of hours of training. When the database is out of reach for longer than a driver waits,
the result goes into `spool/` in the study's folder, one file each, written whole and through to the disk. It is told
when the driver leaves, if the database answers again by then, and else by the next `nas search` or `nas resume` there,
before anything else. It is told under the lease that its driver had. So a result that did arrive before its answer was
lost is recognised, and one whose trial another driver has taken over is refused, whoever tells it and however often.
"""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nas import files
from nas.errors import NasError, OutOfReach
from nas.study import checked
from nas.study.checked import Metrics, Name, Whole
from nas.study.job_answers import Kept, Lease, Origin
from nas.study.job_tables import Kind

FOLDER, PREFIX = "spool", "result-"
MOST_BYTES, MOST_FILES = 16 * 2**20, 10_000
OF_LEASE = {"job_id", "trial_id", "kind", "key", "number", "parent", "attempt"}
"""These fields of a lease are kept with a result."""

log = logging.getLogger("nas")

SpooledState = Literal["COMPLETE", "PRUNED", "FAIL"]
JobId = Annotated[int, Field(ge=0, le=2**62)]


class SpooledResult(BaseModel):
    """Holds a result, and the lease under which it is told."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    v: Literal[1] = 1
    study: Name
    driver: Name
    job_id: JobId
    trial_id: JobId | None
    kind: Annotated[Kind, Field(strict=False)]
    key: Name
    number: Whole | None
    parent: Whole | None
    attempt: Whole
    state: SpooledState
    values: Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(max_length=100)] | None
    trained: bool
    attributes: dict[str, Any]
    violations: Metrics

    def lease(self) -> Lease:
        """Returns the lease under which the result is told."""
        held = self.model_dump(include=OF_LEASE)
        return Lease(**held, checkpoint=None, step=0, origin=Origin.AGAIN, attributes={})


@dataclass(frozen=True)
class Told:
    """Holds what a driver wanted to tell of a job: see `nas.study.leases.Leases.tell`."""

    state: SpooledState
    values: Sequence[float] | None
    trained: bool
    attributes: Mapping[str, Any]
    violations: Mapping[str, float]


class Spool:
    """Keeps results of the study of that name, which has so many objectives, in its folder."""

    def __init__(self, folder: Path, study: str, objectives: int) -> None:
        self.study_folder, self.study, self.objectives = folder, study, objectives

    @property
    def folder(self) -> Path:
        """Returns the folder of the results. Raises Conflict where a link would lead out of the study's folder."""
        return files.refuse_links(self.study_folder, FOLDER)

    def keep(self, driver: str, lease: Lease, told: Told, why: OutOfReach) -> Kept:
        """Writes a result of this driver, through to the disk. Returns the error that says so, and why.

        Raises OutOfReach where the disk refuses it too.
        """
        result = SpooledResult(
            study=self.study,
            driver=driver,
            **{name: getattr(lease, name) for name in OF_LEASE},
            state=told.state,
            values=None if told.values is None else [float(value) for value in told.values],
            trained=told.trained,
            attributes=dict(told.attributes),
            violations=dict(told.violations),
        )
        path = self.folder / f"{PREFIX}{uuid4().hex}.json"
        text = json.dumps(result.model_dump(mode="json"))
        files.create(path, lambda temporary: _write_through(temporary, text))
        _sync(path.parent)
        detail = f"a result of trial {result.number if result.parent is None else result.parent} is kept in {path}"
        help = f"once the database answers again, nas resume {result.study}   tells it before anything else"
        return Kept(why.message, code=why.code, where=why.where, detail=detail, help=help)

    def kept(self) -> list[Path]:
        """Returns the files of all results that are kept."""
        folder = self.folder
        if not folder.is_dir():
            return []
        found = sorted(path for path in folder.glob(f"{PREFIX}*.json") if not files.is_link(path))
        return found[:MOST_FILES]

    def read(self, path: Path) -> SpooledResult | None:
        """Reads a result of this study. None where there is none, with a line in the log where the file is damaged."""
        try:
            result = SpooledResult.model_validate(files.read_json(path, MOST_BYTES))
            checked.row_attributes(result.attributes, str(path))
            if result.parent is None and len(result.values or ()) != self.objectives * (result.state == "COMPLETE"):
                raise ValueError(f"it has {len(result.values or ())} values for {self.objectives} objectives")
            return result if result.study == self.study else None
        except FileNotFoundError:  # another driver of this folder has just told it
            return None
        except (OSError, ValueError, ValidationError, NasError) as error:
            first = (str(error).splitlines() or [""])[0][:200]
            log.warning("%s holds no result that can be told (%s); delete it if it is of no use", path, first)
            return None

    def drop(self, path: Path) -> None:
        """Deletes a result that was told, and the folder after the last one."""
        files.delete_own(path.parent, [path.name])


def _write_through(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
