"""Asks the study for the next trial of a driver, and offers proposals for new ones.

It knows the key of every trial of the study, those of other drivers too.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from optuna.trial import FrozenTrial

from nas.architecture import Architecture
from nas.running.budget import ASKS_PER_TRIAL, End
from nas.running.proposer import Proposal, key_of
from nas.running.proposer_thread import ProposerThread
from nas.running.study_changes import StudyChanges
from nas.space.parameter_space import Design, Parameters, ParameterSpace, SearchSpace
from nas.study.job_answers import Acquired, Answer, Lease, NewJob, Origin
from nas.study.job_tables import job_key
from nas.study.leases import Leases


class TrialQueue:
    """Gets trials for one driver. `rows` is how many rows the study has, as far as this driver knows.

    `look` takes in what other drivers have stored.
    """

    def __init__(
        self,
        leases: Leases,
        space: SearchSpace,
        proposals: ProposerThread,
        study: StudyChanges,
        look: Callable[[], None],
        clock: Callable[[], float] = time.time,
        marks: Mapping[str, Any] | None = None,
    ) -> None:
        """`marks` are attributes that every attempt stores."""
        self._marks = marks or {}
        self.leases, self.space, self.proposals, self.clock = leases, space, proposals, clock
        self.rows, self._study, self._look, self._exhausted = 0, study, look, False
        self._taken: set[str] = set()
        self._nonce = uuid4().hex
        self._offer: tuple[Proposal, NewJob] | None = None
        """The newest proposal, until it has become a row."""

    def update(self, row: FrozenTrial) -> None:
        """Takes in a row of the database as it now stands."""
        self.rows = max(self.rows, row.number + 1)
        self._taken.add(key_of(row.user_attrs["architecture_id"], row.user_attrs.get("learning_rate")))
        self.proposals.absorb(row)

    def enqueue(
        self, architecture: Design, learning_rate: float | None, marks: Mapping[str, Any], again: str = ""
    ) -> int:
        """Adds a trial with these further attributes, to run before anything new, unless the study has it.

        `again` is the number of the failed trial that is tried again. Returns the trial's number.
        """
        found = _params_of(self.space, architecture)
        rate = {} if learning_rate is None else {"learning_rate": learning_rate}
        params = {} if found is None else found | rate
        proposal = self.proposals.fixed(params) if params else None
        number, made = self.leases.enqueue(
            NewJob(
                key=job_key(architecture.id, learning_rate, again=again),
                attributes=self._attributes(architecture, learning_rate) | dict(marks),
                params=params,
                distributions=proposal.distributions if proposal else {},
            )
        )
        if proposal:
            if made:
                self.proposals.adopt(number, proposal)
            else:
                self.proposals.drop(proposal)
        return number

    def next(self, slot: int, running: int, *, may_propose: bool) -> Lease | End | None:
        """Returns a lease on the next trial, or the end of the search; None: others run what is left, ask again later.

        `running` is how many trials this driver runs already.
        """
        answer = self._ask(slot)
        while answer in (Answer.PROPOSE, Answer.DUPLICATE):
            if answer is Answer.DUPLICATE:
                self._look()
            end = self._propose(running) if may_propose else None
            if end or not may_propose:
                return None if self._study.others else end
            answer = self._ask(slot)
        if isinstance(answer, Lease):
            return answer
        return End.BUDGET if answer is Answer.END else None

    def _ask(self, slot: int) -> Acquired:
        """Asks for the next trial, and offers the newest proposal."""
        if self._offer and self._offer[0].key in self._taken:
            self.proposals.drop(self._offer[0])
            self._offer = None
        answer = self.leases.acquire(
            self._nonce, self._offer[1] if self._offer else None, marks={**self._marks, "slot": slot}
        )
        if isinstance(answer, Lease):
            self._nonce = uuid4().hex
            self._take(answer)
        return answer

    def _propose(self, running: int) -> End | None:
        """Makes a proposal to offer. Returns why there is none."""
        if self.rows >= ASKS_PER_TRIAL * self._study.budget:
            return End.ASKS
        flying = running + len(self._study.others)
        another = self._study.counts.trained + flying + 1 < self._study.budget
        # A space that is exhausted stays so.
        proposal = None if self._exhausted else self.proposals.next(self.rows, frozenset(self._taken), another)
        if proposal is None:
            self._exhausted = True
            return End.EXHAUSTED
        attributes = self._attributes(proposal.architecture, proposal.learning_rate) | _told_by(proposal)
        job = NewJob(
            key=job_key(proposal.architecture.id, proposal.learning_rate),
            attributes=attributes,
            params=proposal.params,
            distributions=proposal.distributions,
            system=proposal.system,
        )
        self._offer = proposal, job
        return None

    def _take(self, lease: Lease) -> None:
        """Records that the proposal has become the row of the lease, where it has."""
        new = lease.origin is Origin.NEW or (lease.origin is Origin.AGAIN and lease.attempt == 1)
        if new and self._offer and lease.number is not None and lease.key == self._offer[1].key:
            self.proposals.adopt(lease.number, self._offer[0])
            self.rows = max(self.rows, lease.number + 1)
            self._taken.add(self._offer[0].key)
            self._offer = None

    def _attributes(self, architecture: Design, learning_rate: float | None) -> dict[str, Any]:
        row = {
            "architecture" if isinstance(architecture, Architecture) else "parameters": architecture.canonical(),
            "architecture_id": architecture.id,
            "attempt": 0,
            "proposed": self.clock(),
        }
        return row if learning_rate is None else row | {"learning_rate": learning_rate}


def _params_of(space: SearchSpace, design: Design) -> dict[str, Any] | None:
    """Returns the parameters that Optuna knows; None for an architecture that the space lacks."""
    if isinstance(space, ParameterSpace):
        return space.params_of(design) if isinstance(design, Parameters) else None
    return space.params_of(design) if isinstance(design, Architecture) else None


def _told_by(proposal: Proposal) -> dict[str, Any]:
    predicted = dict(proposal.predicted)
    return {"redraws": proposal.redraws} | ({"predicted": predicted} if predicted else {})
