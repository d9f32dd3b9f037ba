"""Queues what may run next: waiting rows, then proposals that become rows.

It knows every row of the study by its key.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from nas.architecture import Architecture
from nas.running.proposer import Proposal, key_of
from nas.running.proposer_thread import ProposerThread
from nas.space.parameter_space import Design, Parameters, ParameterSpace, SearchSpace
from nas.study.store import Store


class TrialQueue:
    """Hands out the rows of one driver, `owner`. `rows` is how many rows the study has."""

    def __init__(
        self,
        store: Store,
        space: SearchSpace,
        proposals: ProposerThread,
        owner: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store, self.space, self.proposals, self.owner, self.clock = store, space, proposals, owner, clock
        self.rows = 0
        self._waiting: dict[int, FrozenTrial] = {}
        self._taken: set[str] = set()

    def update(self, row: FrozenTrial) -> None:
        """Takes in a row of the database as it now stands."""
        self.rows = max(self.rows, row.number + 1)
        self._taken.add(key_of(row.user_attrs["architecture_id"], row.user_attrs.get("learning_rate")))
        if row.state is TrialState.WAITING:
            self._waiting[row.number] = row
        self.proposals.absorb(row)

    def put_back(self, number: int) -> None:
        """Takes in a row that is WAITING again: its attempt ends here."""
        *earlier, last = self.store.row(number).user_attrs.get("attempts") or [[None, None]]
        self.store.note(number, "attempts", [*earlier, [last[0], self.clock()]])
        self._waiting[number] = self.store.row(number)

    def enqueue(self, architecture: Design, learning_rate: float | None, marks: Mapping[str, Any]) -> int:
        """Writes a WAITING row with these further attributes, to run before anything new."""
        found = _params_of(self.space, architecture)
        rate = {} if learning_rate is None else {"learning_rate": learning_rate}
        params = {} if found is None else found | rate
        proposal = self.proposals.fixed(params) if params else None
        row = self._attributes(architecture, learning_rate) | dict(marks)
        distributions = proposal.distributions if proposal else {}
        number = self.store.add(TrialState.WAITING, params, distributions, row, {})
        if proposal:
            self.proposals.adopt(number, proposal)
        self.update(self.store.row(number))
        return number

    def claim(self, slot: int) -> tuple[int, dict[str, Any]] | None:
        """Claims the first waiting row and returns its number and attributes. None when there is none."""
        while self._waiting:
            row = self._waiting.pop(min(self._waiting))
            if self.store.claim(row.number):
                attempt = row.user_attrs.get("attempt", 0) + 1
                begun = [*row.user_attrs.get("attempts", []), [self.clock(), None]]
                anew = {"attempt": attempt, "attempts": begun, "owner": self.owner, "slot": slot}
                for key, value in anew.items():
                    if row.user_attrs.get(key) != value:
                        self.store.note(row.number, key, value)
                return row.number, {**row.user_attrs, **anew}
        return None

    def create(self, slot: int, another: bool) -> tuple[int, dict[str, Any]] | None:
        """Creates a row. None when every architecture is taken. `another`: one more will be asked for."""
        proposal = self.proposals.next(self.rows, frozenset(self._taken), another)
        if proposal is None:
            return None
        row = self._attributes(proposal.architecture, proposal.learning_rate)
        begun = {"attempt": 1, "attempts": [[self.clock(), None]], "owner": self.owner, "slot": slot}
        row |= begun | _told_by(proposal)
        number = self.store.add(TrialState.RUNNING, proposal.params, proposal.distributions, row, proposal.system)
        self.proposals.adopt(number, proposal)
        self.rows = number + 1
        self._taken.add(proposal.key)
        return number, row

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
