"""Workers that are told to end, and nodes that are about to."""

import os
import signal
import threading

import pytest

from nas.running.departures import PAUSE_SECONDS, Departure, LeavingNodes


@pytest.fixture
def ends():
    """The handler of the worker's own, which ends it."""
    told = []
    former = signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    yield told
    signal.signal(signal.SIGTERM, former)


def tell():
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_worker_with_a_trial_saves_first_and_without_one_or_told_twice_it_ends(ends):
    departure = Departure()
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
    departure.listen()
    departure.begin()
    assert not departure.asked
    tell()
    assert (departure.asked, ends) == (True, [])
    tell()
    assert ends == [signal.SIGTERM]
    departure.end()
    departure.begin()  # the machine stays after all, and has another trial
    assert not departure.asked
    departure.end()
    tell()
    assert (departure.asked, len(ends)) == (False, 2)


def test_in_another_thread_the_handler_stays(ends):
    departure = Departure()
    thread = threading.Thread(target=departure.listen)
    thread.start()
    thread.join()
    departure.begin()
    tell()
    assert (departure.asked, ends) == (False, [signal.SIGTERM])


def test_nodes_leave_while_they_are_drained_and_for_a_while_after_a_worker_was_told():
    now = [100.0]
    nodes = LeavingNodes(lambda: now[0])
    assert "a" not in nodes
    assert nodes.drained(["b", "a"]) == ["a", "b"]
    assert nodes.drained(["a", "c"]) == ["c"]
    assert [name in nodes for name in "abc"] == [True, False, True]
    assert (nodes.told("a"), nodes.told("b"), nodes.told("b")) == (False, True, False)
    now[0] += PAUSE_SECONDS
    assert [name in nodes for name in "abc"] == [True, False, True]
