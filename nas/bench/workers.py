"""Simulates how long workers wait for the driver: trial times are simulated seconds, asking and telling are real.

The coordinator is the real one, over a real database. The time of its calls is added to the simulated clock; meanwhile
every worker that has something to say waits, since one thread serves them all. The thread that computes proposals ahead
is simulated too: a call is made at once, and its result is available after as many simulated seconds. While the driver
itself works, that thread stands still, as if Python ran only one of them at a time: the worst case.
"""

import heapq
import math
import random
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

from nas.running.coordinator import Coordinator
from nas.running.events import BodyFactory, Job

MOMENTS = (0.05, 0.25, 0.5, 1.0)
"""The shares of its whole time at which a trial reports: measured, at two rungs, at the end."""

Timer = Callable[[], float]


class SimulatedThread(Executor):
    """Makes calls in order, on a clock that its owner turns.

    `waited` are the caller's seconds of waiting for results, `spent` the seconds of the calls.
    """

    def __init__(self, timer: Timer = time.perf_counter) -> None:
        self.timer, self.waited, self.spent = timer, 0.0, 0.0
        self._queue: deque[_Call] = deque()

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """Makes the call at once, and raises at once what it raises."""
        started = self.timer()
        outcome = function(*arguments, **options)
        call = _Call(self, outcome, self.timer() - started)
        self.spent += call.left
        self._queue.append(call)
        return call

    def run_for(self, seconds: float) -> None:
        """Lets so many seconds pass for the thread."""
        while self._queue and self._queue[0].left <= seconds:
            call = self._queue.popleft()
            seconds -= call.left
            call.finish()
        if self._queue:
            self._queue[0].left -= seconds

    def wait_for(self, call: "_Call") -> None:
        while not call.done():
            left = self._queue[0].left
            self.waited += left
            self.run_for(left)


class _Call(Future[Any]):
    """Holds a call's outcome until it is due, in `left` seconds."""

    def __init__(self, thread: SimulatedThread, outcome: Any, left: float) -> None:
        super().__init__()
        self.thread, self.outcome, self.left = thread, outcome, left

    def finish(self) -> None:
        self.set_result(self.outcome)

    def result(self, timeout: float | None = None) -> Any:
        self.thread.wait_for(self)
        return super().result(timeout)


@dataclass
class Waits:
    """Counts worker-seconds by what was waited for."""

    queue: float = 0.0
    """Until the driver had served others."""
    proposal: float = 0.0
    own: float = 0.0
    """The asking or telling itself."""

    @property
    def seconds(self) -> float:
        return self.queue + self.proposal + self.own


class Workers:
    """Simulates `count` workers, all free at first; a trial takes 1 to 100 seconds, log-uniform by its number."""

    def __init__(
        self, coordinator: Coordinator, thread: SimulatedThread, factory: BodyFactory, count: int, seed: int = 0
    ) -> None:
        self.thread, self.count = thread, count
        self.now, self.waits = 0.0, Waits()
        self._workers = [_Worker(coordinator, factory, seed) for _ in range(count)]
        self._calls = [(0.0, i) for i in range(count)]
        """The times at which workers call the driver, the first one first."""

    @property
    def ended(self) -> int:
        return sum(worker.ended for worker in self._workers)

    def until(self, trials: int) -> float:
        """Serves the workers until so many trials have ended in all.

        Returns the share of the worker-seconds so far that were waited.
        """
        while self.ended < trials and self._calls:
            at, i = heapq.heappop(self._calls)
            self._serve(at, self._workers[i])
            pause = self._workers[i].pause()
            if pause is not None:
                heapq.heappush(self._calls, (self.now + pause, i))
        unserved = sum(max(0.0, self.now - at) for at, _ in self._calls)
        return (self.waits.seconds + unserved) / (self.count * self.now)

    def _serve(self, at: float, worker: "_Worker") -> None:
        if at > self.now:
            self.thread.run_for(at - self.now)
            self.now = at
        thread, started = self.thread, self.thread.timer()
        thread.waited = thread.spent = 0.0
        worker.call()
        own = thread.timer() - started - thread.spent
        self.waits.queue += self.now - at
        self.waits.proposal += thread.waited
        self.waits.own += own
        self.now += own + thread.waited


class _Worker:
    """Asks for a job, reports its results, asks for the next."""

    def __init__(self, coordinator: Coordinator, factory: BodyFactory, seed: int) -> None:
        self.coordinator, self.factory, self.seed = coordinator, factory, seed
        self.job: Job | None = None
        self.ended, self._told, self._goes_on = 0, 0, True

    def call(self) -> None:
        """Calls the driver for whatever comes next."""
        if self.job is None:
            self.job = self.coordinator.next_job()
            self._told = 0
        else:
            self._goes_on = self.coordinator.report(self.job, self._event)
            self._told += 1

    def pause(self) -> float | None:
        """Returns the simulated seconds until the next call, or None when nothing is left to do."""
        if self.job is None:
            return None
        if not self._told:
            self._body = self.factory(self.job)
            self._seconds = math.exp(random.Random(f"{self.seed}:{self.job.number}").uniform(0.0, math.log(100)))
        elif not self._goes_on:
            self.job, self.ended = None, self.ended + 1
            return 0.0
        self._event = self._body.step()
        return self._seconds * (MOMENTS[self._told] - (0.0, *MOMENTS)[self._told])
