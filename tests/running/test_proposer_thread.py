"""When the next proposal is computed ahead."""

from concurrent.futures import Executor, Future
from types import SimpleNamespace

import pytest

from nas.running.proposer_thread import ProposerThread


class Immediate(Executor):
    def submit(self, call, /, *arguments, **options):
        done = Future()
        done.set_result(call(*arguments, **options))
        return done


class Counting:
    """A proposer that keeps the numbers for which it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def propose(self, number, taken):
        self.asked.append(number)
        return SimpleNamespace(key=str(number))


@pytest.fixture
def proposer():
    return Counting()


def test_the_next_proposal_is_computed_once_a_trial_is_measured(proposer):
    ahead = ProposerThread(proposer, Immediate())
    ahead.next(0, frozenset(), another=True)
    assert proposer.asked == [0]
    ahead.prepare()
    ahead.prepare()
    assert proposer.asked == [0, 1]
    assert ahead.next(1, frozenset({"0"}), another=True).key == "1"
    assert proposer.asked == [0, 1]


def test_a_proposal_that_was_not_computed_ahead_is_computed_when_it_is_asked_for(proposer):
    ahead = ProposerThread(proposer, Immediate())
    keys = [ahead.next(number, frozenset(), another=True).key for number in range(3)]
    assert (keys, proposer.asked) == (["0", "1", "2"], [0, 1, 2])


def test_nothing_is_computed_ahead_of_the_last_trial_or_without_a_thread(proposer):
    for prefetch, another in ((Immediate(), False), (False, True)):
        ahead = ProposerThread(proposer, prefetch)
        ahead.next(0, frozenset(), another)
        ahead.prepare()
    assert proposer.asked == [0, 0]
