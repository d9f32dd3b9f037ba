"""Asks for the next architecture, while trials run where that is wanted.

The proposer has one owner: the thread that asks, where there is one, else the caller.
"""

import gc
from collections.abc import Callable, Set
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from nas.running.proposer import Proposal, Proposer

P = ParamSpec("P")
T = TypeVar("T")
MANY = 1000
"""From so many trials on, what is known of them at the first proposal is kept from the garbage collector: of 10,000, a
full run of it takes a second, in which nobody is answered."""


class ProposerThread:
    """A proposer, with one proposal computed ahead if `prefetch`: in a thread, or by the executor that is given.

    That proposal knows one result less. Without it a study with deterministic objectives repeats exactly. More than one
    ahead is not worth what they do not know: 100 simulated workers (nas.bench.workers) waited 2.9 % of their time with
    one, 2.7 % with up to four, 2.2 % with up to eight.
    """

    def __init__(self, proposer: Proposer, prefetch: bool | Executor) -> None:
        self.proposer = proposer
        thread = ThreadPoolExecutor(1, thread_name_prefix="ask") if prefetch is True else None
        self._pool = prefetch if isinstance(prefetch, Executor) else thread
        self._ahead: Future[Proposal | None] | None = None
        self._told: list[Future[object]] = []
        self._frozen = False

    def next(self, number: int, taken: Set[str], another: bool) -> Proposal | None:
        """For the trial of that number; None when every architecture is taken. `another`: more will be asked for."""
        proposal = None
        self._raise_what_failed()
        if self._ahead is not None:
            proposal, self._ahead = self._ahead.result(), None
        if proposal is None or proposal.key in taken:
            proposal = self.call(self._propose, number, taken)
        if self._pool and proposal and another:
            self._ahead = self._pool.submit(self._propose, number + 1, taken | {proposal.key})
        return proposal

    def call(self, function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """A call of the proposer, made by its owner."""
        if self._pool:
            return self._pool.submit(function, *arguments, **options).result()
        return function(*arguments, **options)

    def tell(self, function: Callable[P, object], *arguments: P.args, **options: P.kwargs) -> None:
        """The same, without waiting for it: calls are made in order, and what one raises comes with the next `next`."""
        if self._pool:
            self._told.append(self._pool.submit(function, *arguments, **options))
        else:
            function(*arguments, **options)

    def close(self) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def _propose(self, number: int, taken: Set[str]) -> Proposal | None:
        proposal = self.proposer.propose(number, taken)
        if len(taken) >= MANY and not self._frozen:
            gc.freeze()
            self._frozen = True
        return proposal

    def _raise_what_failed(self) -> None:
        told, self._told = self._told, []
        for call in told:
            if call.done():
                call.result()
            else:
                self._told.append(call)
