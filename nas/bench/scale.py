"""Measures what an ask costs when a study is large, and how long workers wait for the driver. Nothing is trained.

A study of nas.bench.formulas gets its finished trials at once, directly in its database, and is then opened as a driver
opens it.
"""

import tempfile
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nas.bench.formulas import FormulaBody, Formulas
from nas.bench.workers import SimulatedThread, Workers
from nas.running.coordinator import Coordinator
from nas.running.events import Completed, Job, Measured, Reached
from nas.study.leases import join
from nas.study.store import Store, sqlite_url
from nas.surroundings import one_blas_thread

WORKERS, ENDED, ASKS = 100, 600, 40
PACE_SECONDS = 0.215
"""The time between two asks of 100 workers whose trials take 21.5 s on average, as they are drawn."""
NO_END = 10**6
WHOLE = ("search.stopping=false", "search.skip=false")
"""Settings with which every trial lasts as long as its drawn time."""
NAMES = {Measured: "measured", Reached: "rung", Completed: "completed"}


def measure(
    trials: int, tell: Callable[[str], None], asks: int = ASKS, workers: int = WORKERS, ended: int = ENDED
) -> dict[str, Any]:
    """Measures all figures; this takes some minutes.

    Asks are timed once `trials` are finished; the simulated workers run until `ended` trials have ended.
    """
    formulas = Formulas()
    result: dict[str, Any] = {"trials": trials}
    with tempfile.TemporaryDirectory(prefix="nas-bench-") as name:
        tell(f"A database with {trials:,} finished trials")
        fill(Path(name), formulas, trials)
        result["database_mib"] = (Path(name) / "study.db").stat().st_size / 2**20
        tell(f"{asks} asks that compute their proposal")
        result["proposals"] = timed(Path(name), formulas, asks, workers, ahead=False)
        tell(f"{asks} asks with the proposal computed ahead")
        result["asks"] = timed(Path(name), formulas, asks, workers, ahead=True)
    for key, overrides, which in (("workers", WHOLE, "whole"), ("workers_stopping", (), "whole and stopped")):
        tell(f"{workers} simulated workers, until {ended} trials have ended, {which}")
        with tempfile.TemporaryDirectory(prefix="nas-bench-") as name:
            result[key] = served(Path(name), Formulas(*overrides), workers, ended)
    return result


def fill(folder: Path, formulas: Formulas, count: int) -> None:
    """Makes a new study with so many finished trials, in one transaction."""
    store = Store.create(sqlite_url(folder), formulas.file.name, formulas.file.objective_list())
    store.add_rows(formulas.finished(count))
    store.close()


class Clocked:
    """Times the calls of a coordinator with running trials; it waits `pause` seconds before each call."""

    def __init__(self, folder: Path, formulas: Formulas, ahead: bool, pause: float) -> None:
        self.formulas, self.pause = formulas, pause
        self.running = deque[tuple[Job, FormulaBody]]()
        self.seconds: dict[str, list[float]] = {}
        self.store = Store.open(sqlite_url(folder))
        self.time("read", self.store.rows)
        self.coordinator = self.time("recover", partial(coordinator, self.store, formulas, ahead))

    def time(self, name: str, call: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = call()
        self.seconds.setdefault(name, []).append(time.perf_counter() - started)
        return result

    def ask(self, name: str) -> None:
        """Asks for one more job, and reports its measurement."""
        time.sleep(self.pause)  # the trials' own time, during which the next proposal is computed
        job = self.time(name, self.coordinator.next_job)
        body = self.formulas.body(job)
        if self._tell(job, body):
            self.running.append((job, body))

    def end_one(self) -> None:
        """Ends the trial that has run longest; it reports all its rungs."""
        job, body = self.running.popleft()
        while self._tell(job, body):
            pass

    def close(self) -> None:
        """Ends all running trials, so that the next driver of the study has to ask."""
        self.pause = 0.0
        while self.running:
            self.end_one()
        self.coordinator.close()
        self.store.close()

    def milliseconds(self, name: str) -> dict[str, float]:
        median, p95, most = np.percentile(self.seconds[name], [50, 95, 100]) * 1e3
        return {"median": float(median), "p95": float(p95), "max": float(most)}

    def _tell(self, job: Job, body: FormulaBody) -> bool:
        time.sleep(self.pause)  # see ask
        event = body.step()
        return bool(self.time(NAMES[type(event)], partial(self.coordinator.report, job, event)))


def timed(folder: Path, formulas: Formulas, asks: int, workers: int, ahead: bool) -> dict[str, Any]:
    """Opens the study, starts a trial for each worker, then times so many asks and the reports between them.

    With `ahead` a thread computes the next proposal meanwhile, and calls come as often as from these workers. Otherwise
    an ask takes as long as its proposal, and the next follows at once.
    """
    clocked = Clocked(folder, formulas, ahead, PACE_SECONDS * WORKERS / workers / 5 if ahead else 0.0)
    try:
        clocked.ask("first_ask")
        while len(clocked.running) < workers:
            clocked.ask("filling")
        with one_blas_thread():
            for _ in range(asks):
                clocked.end_one()
                clocked.ask("ask")
        clocked.time("read_again", clocked.store.rows)
        once = {f"{name}_seconds": clocked.seconds[name][0] for name in ("read", "recover", "first_ask", "read_again")}
        often = {f"{name}_ms": clocked.milliseconds(name) for name in ("ask", *NAMES.values())}
        return once | often
    finally:
        clocked.close()


def served(folder: Path, formulas: Formulas, count: int, ended: int) -> dict[str, float]:
    """Returns the share of their time for which simulated workers wait for the driver of a new study, and why."""
    store = Store.create(sqlite_url(folder), formulas.file.name, formulas.file.objective_list())
    thread = SimulatedThread()
    driver = coordinator(store, formulas, thread)
    workers = Workers(driver, thread, formulas.body, count)
    with one_blas_thread():
        start = workers.until(min(count, ended))
        idle, waits = workers.until(ended), workers.waits
    driver.close()
    store.close()
    whole = workers.now * count
    return {
        "workers": count,
        "ended": workers.ended,
        "simulated_seconds": workers.now,
        "idle": idle,
        "idle_at_start": start,
        "idle_queue": waits.queue / whole,
        "idle_proposal": waits.proposal / whole,
        "idle_own": waits.own / whole,
    }


def coordinator(store: Store, formulas: Formulas, ahead: bool | Executor) -> Coordinator:
    leases = join(store.database, store.name, NO_END)
    return Coordinator(leases, formulas.file, prefetch=ahead, describe=formulas.describe)
