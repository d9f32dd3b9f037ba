"""Counts how much of the budget is trained, and decides when a search ends."""

from dataclasses import dataclass
from enum import StrEnum

from optuna.trial import TrialState

from nas.reasons import Reason

WORKER_CRASHES = 3
"""A trial whose worker has died so often has failed."""
ASKS_PER_TRIAL = 20
FEWEST_FAILURES, FAILURES_IN_A_ROW = 5, 10


class End(StrEnum):
    """Names the reason why no more jobs are handed out."""

    BUDGET = "the budget is reached"
    EXHAUSTED = "the space is exhausted: every architecture has been tried"
    ASKS = f"{ASKS_PER_TRIAL} proposals a trial were made: too few are feasible and worth training"
    FAILURES = "too many trials failed"
    STOPPED = "it was told to stop"


@dataclass
class OutcomeCounts:
    """Counts finished rows by outcome.

    `trained` counts COMPLETE trials and those PRUNED at a rung; `stopped` counts the latter alone. `infeasible` and
    `skipped` trials were never trained.
    """

    trained: int = 0
    failed: int = 0
    infeasible: int = 0
    stopped: int = 0
    skipped: int = 0

    def add(self, state: TrialState, has_rungs: bool, reason: str) -> None:
        if state is TrialState.FAIL:
            self.failed += 1
        elif state is TrialState.COMPLETE or has_rungs:
            self.trained += 1
            self.stopped += state is TrialState.PRUNED
        elif reason == Reason.SKIPPED:
            self.skipped += 1
        else:
            self.infeasible += 1


@dataclass
class Failures:
    """Counts the failures of one launch. A study that failed too often may be resumed, and then counts from 0.

    Failures are too many when more than `limit` of the ended trials failed, once five have; or when ten fail in a row,
    unless `limit` allows any share.
    """

    limit: float
    failed: int = 0
    ended: int = 0
    in_a_row: int = 0

    def add(self, state: TrialState) -> None:
        failed = state is TrialState.FAIL
        self.ended += 1
        self.failed += failed
        self.in_a_row = self.in_a_row + 1 if failed else 0

    def too_many(self) -> bool:
        often = self.failed >= FEWEST_FAILURES and self.failed > self.limit * self.ended
        return often or (self.limit < 1 and self.in_a_row >= FAILURES_IN_A_ROW)
