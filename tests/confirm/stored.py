"""Writes confirmations into a study's database, as the jobs that they are."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from nas.confirmation import Confirmation
from nas.study.job_answers import Lease, NewJob
from nas.study.job_tables import Kind, job_key
from nas.study.leases import join
from nas.study.store import sqlite_url
from nas.study.transactions import Database


def store(folder: Path, confirmations: Iterable[Confirmation]) -> None:
    """Stores every retraining, test and block of these trials of the study in the folder."""
    database = Database(sqlite_url(folder))
    leases = join(database, folder.name, 100, hardware="a processor")
    for found in confirmations:
        for each in found.retrainings:
            seed = {"seed": each.seed, "steps": each.steps}
            result = {"reason": each.reason} if each.failed else {"metrics": dict(each.metrics)}
            _tell(leases, found.trial, f"seed:{each.seed}:{each.steps}", seed | result)
            if each.test:
                _tell(leases, found.trial, f"test:{each.seed}:{each.steps}", seed | {"test": dict(each.test)})
        for k, block in enumerate(found.blocks):
            measured = {"began": block.began, "metrics": dict(block.metrics), "hardware": block.hardware}
            _tell(leases, found.trial, f"block:{k}@{block.hardware}", measured)
    leases.leave()
    database.close()


def _tell(leases: Any, trial: int, again: str, attributes: dict[str, Any]) -> None:
    key = job_key("confirmed", None, Kind.CONFIRMATION, f"{trial}/{again}")
    leases.enqueue(NewJob(key, {}, Kind.CONFIRMATION, parent=trial))
    lease = leases.acquire(key, kinds=(Kind.CONFIRMATION,))
    assert isinstance(lease, Lease), lease
    state = TrialState.FAIL if "reason" in attributes else TrialState.COMPLETE
    leases.tell(lease, state, None, trained=state is TrialState.COMPLETE, attributes=attributes)
