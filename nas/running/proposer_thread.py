"""Runs a proposer in a thread of its own: it computes the next architecture while trials run.

Only one thread calls the proposer: the pool's where there is a pool, else the caller's.
"""

import gc
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from optuna.trial import FrozenTrial, TrialState

from nas.results import Rung
from nas.running.proposer import Proposal, Proposer

P = ParamSpec("P")
T = TypeVar("T")
MANY = 1000
"""With this many trials, objects that exist at the first proposal are hidden from the garbage collector. With
10,000 trials one full collection takes a second, during which no call is answered.
"""


class ProposerThread:
    """Passes calls on to a proposer. With `prefetch` it computes one proposal ahead, in a thread or by that executor.

    `next`, `fixed` and `optimistic` wait for the answer. The other calls do not wait: the proposer handles them in
    order, and `next` raises what one of them raised.

    A proposal computed ahead lacks one result. Without prefetching, a study with deterministic objectives repeats
    exactly. More than one ahead would lack more results, and hardly shortens the waits of many workers
    (docs/experiments.md, "Proposals").
    """

    def __init__(self, proposer: Proposer, prefetch: bool | Executor) -> None:
        self._proposer = proposer
        thread = ThreadPoolExecutor(1, thread_name_prefix="ask") if prefetch is True else None
        self._pool = prefetch if isinstance(prefetch, Executor) else thread
        self._ahead: Future[Proposal | None] | None = None
        self._wanted: tuple[int, Set[str]] | None = None
        self._posted: list[Future[object]] = []
        self._frozen = False

    def next(self, number: int, taken: Set[str], another: bool) -> Proposal | None:
        """Returns the proposal for the trial of that number; None when every architecture is taken.

        `another`: one more follows, which `prepare` begins to compute.
        """
        proposal = None
        self._raise_what_failed()
        if self._ahead is not None:
            proposal, self._ahead = self._ahead.result(), None
        if proposal is not None and proposal.key in taken:
            self.drop(proposal)
            proposal = None
        if proposal is None:
            proposal = self._answer(self._propose, number, taken)
        self._wanted = (number + 1, taken | {proposal.key}) if proposal and another else None
        return proposal

    def prepare(self) -> None:
        """Begins to compute the next proposal, if `next` was told that one follows.

        It is called once a trial is measured: beside the measurement, the computing would count as other load.
        """
        if self._pool and self._wanted and self._ahead is None:
            self._ahead, self._wanted = self._pool.submit(self._propose, *self._wanted), None

    def drop(self, proposal: Proposal) -> None:
        """Records that the proposal becomes no row."""
        self._post(self._proposer.drop, proposal)

    def fixed(self, params: Mapping[str, Any]) -> Proposal:
        """Returns the proposal with exactly these parameters."""
        return self._answer(self._proposer.fixed, params)

    def optimistic(self, number: int, metrics: Mapping[str, float]) -> list[float] | None:
        """Returns a measured trial's objectives, with an optimistic bound on its quality; None where there is no
        model.
        """
        return self._answer(self._proposer.optimistic, number, dict(metrics))

    def absorb(self, row: FrozenTrial) -> None:
        """Takes in a row as it now stands in the database."""
        self._post(self._proposer.absorb, row)

    def adopt(self, number: int, proposal: Proposal) -> None:
        """Records that the proposal has become the row of that number."""
        self._post(self._proposer.adopt, number, proposal)

    def measured(self, number: int, metrics: Mapping[str, float]) -> None:
        """Takes in the metrics that a trial has before it is trained."""
        self._post(self._proposer.measured, number, dict(metrics))

    def reached(self, number: int, rung: Rung) -> None:
        """Takes in one more rung of a trial."""
        self._post(self._proposer.reached, number, rung)

    def finished(
        self, number: int, state: TrialState, values: Sequence[float] | None, violations: Mapping[str, float]
    ) -> None:
        """Takes in the result of a trial."""
        self._post(self._proposer.finished, number, state, values, violations)

    def close(self) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def _answer(self, call: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        if self._pool:
            return self._pool.submit(call, *arguments, **options).result()
        return call(*arguments, **options)

    def _post(self, call: Callable[P, object], *arguments: P.args, **options: P.kwargs) -> None:
        if self._pool:
            self._posted.append(self._pool.submit(call, *arguments, **options))
        else:
            call(*arguments, **options)

    def _propose(self, number: int, taken: Set[str]) -> Proposal | None:
        proposal = self._proposer.propose(number, taken)
        if len(taken) >= MANY and not self._frozen:
            gc.freeze()
            self._frozen = True
        return proposal

    def _raise_what_failed(self) -> None:
        posted, self._posted = self._posted, []
        for call in posted:
            if call.done():
                call.result()
            else:
                self._posted.append(call)
