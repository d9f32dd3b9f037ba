"""Enqueues what a launch runs before anything new: baselines, and failed trials that are tried again."""

from nas.results import State
from nas.running.coordinator import Coordinator
from nas.settings.study_file import StudyFile
from nas.study.stored_study import StoredStudy


def enqueue_first(coordinator: Coordinator, study: StoredStudy, file: StudyFile, retry_failed: bool) -> None:
    """Enqueues baselines that have no row yet, then failed trials that are to be tried again."""
    rows = study.store.rows()
    known = {row.user_attrs["architecture_id"] for row in rows}
    rates = file.train.learning_rate or ()
    for design in file.baseline_designs():
        if design.id not in known:
            known.add(design.id)
            coordinator.enqueue(design, rates[0] if len(rates) > 1 else None, baseline=True)
    retried = {row.user_attrs.get("retry_of") for row in rows}
    for row in rows:
        if row.state.name != State.FAIL or row.number in retried:
            continue
        told = row.user_attrs
        if retry_failed or file.search.retries.again(told.get("reason", ""), told.get("retry", 0)):
            coordinator.enqueue_again(row.number, told)
