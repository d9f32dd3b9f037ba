"""Whole drivers share a study while they, and the server of the database, are killed, frozen and restarted; then all is
counted.

    python -m tests.study.driver_kills sqlite --trials 60 --kills 10
    python -m tests.study.driver_kills postgresql --trials 300 --kills 60 --freezes 10 --restarts 12 --double 4

It prints one JSON object. Trainings are closed formulas with simulated seconds; each driver is a process with sampler,
stopping rule and heartbeat of its own. Checkpoints are files that outlive their driver, and each one tells who made it.
`restarts` take PostgreSQL's ways in turn: immediate, fast, SIGKILL, and SIGSTOP for some seconds. With `--every` they
come after a random number of seconds in that range each, until the search ends. `double` kills a driver, and the server
when the others take over its trials. `outages` last until all drivers have given up (`--patience`), and the server dies
once more while new drivers tell the results that these have kept.
"""

import argparse
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sql

from nas import files
from nas.errors import OutOfReach
from nas.results import Rung
from nas.running import serial_executor as serial
from nas.running.coordinator import Coordinator
from nas.running.events import Completed, Event, Job, Measured, Reached
from nas.running.stop_control import StopControl
from nas.study.database import sqlite_url
from nas.study.drivers import Drivers, Heartbeat
from nas.study.job_tables import JOBS
from nas.study.leases import join
from nas.study.spool import Spool
from nas.study.spool_replay import tell_kept
from nas.study.store import Store
from nas.study.study_jobs import StudyJobs
from nas.study.transactions import Database
from tests.running.tables import RUNGS, cheap, loss, settings
from tests.study import postgres

NAME, GRACE, BEAT = "killed", 3.0, 0.5
FILE = settings(
    'objectives=[{metric="val_loss"},{metric="weights_mib"}]',
    "constraints=[]",
    "search.sampler=random",
    f"space.hidden={[*range(8, 1032, 8)]}",
)
"""Its space has more architectures than any run trains."""
WAYS = (signal.SIGQUIT, signal.SIGINT, signal.SIGKILL, signal.SIGSTOP)


class Body:
    """A training that keeps its rungs as files, each by the first attempt that reached it, and takes its time."""

    def __init__(self, job: Job, folder: Path, pace: float) -> None:
        from nas.architecture import Architecture

        self.job, self.folder, self.pace, self.told = job, folder, pace, -1
        self.architecture = Architecture.model_validate(dict(job.architecture))

    def step(self) -> Event:
        time.sleep(self.pace)
        if self.told < 0:
            self.told = 0
            return Measured(self.job.metrics or cheap(self.architecture))
        step = RUNGS[self.told]
        path = self.folder / f"{self.job.number}-{step}.json"
        if not path.exists():
            made = {"val_loss": loss(self.architecture, step)}
            files.write_json(path, {"metrics": made, "attempt": self.job.attempt})
            note(self.folder, "trained", number=self.job.number, step=step, attempt=self.job.attempt)
        rung = Rung(step, step / 10, files.read_json(path)["metrics"])
        self.told += 1
        return Completed(rung, rung.metrics) if self.told == len(RUNGS) else Reached(rung)


def note(folder: Path, event: str, **facts: Any) -> None:
    """Adds a line to this process's diary, at once, so that it outlives the process."""
    line = json.dumps({"event": event, "pid": os.getpid(), **facts}) + "\n"
    handle = os.open(folder / f"diary-{os.getpid()}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, line.encode())
    os.close(handle)


def drive(url: str, folder: Path, trials: int, pace: float, patience: float) -> None:
    """One driver, until the search ends."""
    database = Database(url, patience=patience, hang=4)
    leases = join(database, NAME, trials, grace=GRACE)
    leases.spool = Spool(folder, NAME, len(FILE.objective_list()))
    note(folder, "replayed", new=tell_kept(leases.spool, leases.jobs))
    attempts: dict[int, int] = {}

    def observe(event: dict[str, Any]) -> None:
        if event["type"] == "started":
            attempts[event["trial"]] = event["attempt"]
            note(folder, "begun", number=event["trial"], attempt=event["attempt"])
        elif event["type"] == "finished":
            number = event["trial"]
            note(folder, "told", number=number, attempt=attempts[number], state=event["state"])

    with Heartbeat(Drivers(leases.jobs, GRACE), leases.driver, BEAT) as heartbeat:
        coordinator = Coordinator(leases, FILE, observer=observe, expired=lambda: heartbeat.expired)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        serial.run(coordinator, lambda job: Body(job, folder, pace), StopControl(folder, driver=leases.driver.id))
        coordinator.close()
        leases.leave()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    end = str(coordinator.end)
    note(folder, "left", end=end, late=leases.late_writes, grown=grown, retries=dict(database.retries))


class Fleet:
    """Keeps so many drivers alive, each a fork of this process."""

    def __init__(self, url: str, folder: Path, options: argparse.Namespace) -> None:
        self.url, self.folder, self.options, self.alive = url, folder, options, set[int]()

    def fill(self) -> None:
        while len(self.alive) < self.options.drivers:
            if (pid := os.fork()) == 0:
                code = 1
                try:
                    drive(self.url, self.folder, self.options.trials, self.options.pace, self.options.patience)
                    code = 0
                except OutOfReach as error:
                    note(self.folder, "out of reach", text=error.render()[-800:])
                    code = 5
                except BaseException as error:
                    note(self.folder, "error", text=repr(error)[-800:])
                    raise
                finally:
                    os._exit(code)
            self.alive.add(pid)

    def reap(self) -> bool:
        """Forgets drivers that ended, and tells whether one of them has seen the end of the search."""
        over = False
        for pid in list(self.alive):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                self.alive.discard(pid)
                over |= os.WIFEXITED(status) and not os.WEXITSTATUS(status)
        return over


def disturb(fleet: Fleet, server: postgres.Server | None, options: argparse.Namespace) -> Counter[str]:
    """Does all that is planned, spread over the search, in an order by seed."""
    rng, done, asleep = random.Random(options.seed), Counter[str](), dict[int, float]()
    if server and options.every:
        return restart_until_the_end(fleet, server, rng, options)
    plan = ["kills"] * options.kills + ["freezes"] * options.freezes
    if server:
        plan += ["restarts"] * options.restarts + ["double"] * options.double + ["outages"] * options.outages
    rng.shuffle(plan)
    while done.total() < len(plan) or asleep:
        for pid in [pid for pid, until in asleep.items() if time.monotonic() > until]:
            os.kill(pid, signal.SIGCONT)
            del asleep[pid]
        fleet.fill()
        time.sleep(0.05)
        if fleet.reap() and not asleep:
            break
        told = lines(fleet.folder, '"told"')
        victims = [pid for pid in sorted(fleet.alive - asleep.keys()) if told[pid]]
        due = told.total() >= options.trials * (done.total() + 1) / (len(plan) + 2)
        if not victims or not due or done.total() == len(plan):
            continue
        what = plan[done.total()]
        if what in ("kills", "double"):
            os.kill(rng.choice(victims), signal.SIGKILL)
        elif what == "freezes":
            victim = rng.choice(victims)
            os.kill(victim, signal.SIGSTOP)
            asleep[victim] = time.monotonic() + 1.5 * GRACE
        if server and what == "double":
            fleet.fill()
            time.sleep(rng.uniform(0, 0.5))  # the new driver declares the dead one gone, and trials are taken over
            restart(server, signal.SIGKILL, 0)
        if server and what == "outages":
            outage(fleet, server, rng)
        if server and what == "restarts":
            restart(server, WAYS[done[what] % len(WAYS)], options.asleep)
        done[what] += 1
    return done


def restart_until_the_end(
    fleet: Fleet, server: postgres.Server, rng: random.Random, options: argparse.Namespace
) -> Counter[str]:
    done, most = Counter[str](), 0
    due = time.monotonic() + rng.uniform(*options.every)
    fleet.fill()
    while fleet.alive:
        time.sleep(0.2)
        fleet.reap()
        most = max(most, connections(server))
        if time.monotonic() > due and fleet.alive:
            restart(server, WAYS[done["restarts"] % len(WAYS)], options.asleep)
            done["restarts"] += 1
            due = time.monotonic() + rng.uniform(*options.every)
    done["most_connections"] = most
    return done


def connections(server: postgres.Server) -> int:
    """The sessions of others on the server now."""
    (count,) = server.execute("SELECT count(*) FROM pg_stat_activity WHERE datname LIKE 'nas%'")[0]
    return int(count)


def outage(fleet: Fleet, server: postgres.Server, rng: random.Random) -> None:
    """Lets the drivers give up and keep their results, and kills the server once more when these are told."""
    server.stop(signal.SIGKILL)
    while fleet.alive:
        time.sleep(0.05)
        fleet.reap()
    server.start()
    fleet.fill()
    time.sleep(rng.uniform(0, 0.5))
    restart(server, signal.SIGKILL, 0)


def restart(server: postgres.Server, way: signal.Signals, seconds: float) -> None:
    if way is signal.SIGSTOP:
        with server.frozen():
            time.sleep(seconds)
    else:
        server.stop(way)
        server.start()


def lines(folder: Path, text: str) -> Counter[int]:
    """How many lines with this text each driver's diary has, by process."""
    return Counter({int(f.stem.partition("-")[2]): f.read_text().count(text) for f in folder.glob("diary-*.jsonl")})


def count(url: str, folder: Path, trials: int) -> dict[str, Any]:
    """Compares the database with itself, and with what the drivers have seen."""
    store = Store.open(url, NAME)
    rows = {row.number: row for row in store.rows()}
    jobs = StudyJobs(store.database, store.study_id)
    phases = sql.select(JOBS.c.phase).where(JOBS.c.study_id == jobs.study_id)
    found = Counter(jobs.database.read(lambda connection: connection.execute(phases).scalars().all()))
    store.close()
    diary = [json.loads(line) for file in folder.glob("diary-*.jsonl") for line in file.read_text().splitlines()]
    told = [entry for entry in diary if entry["event"] == "told"]
    trained = Counter((entry["number"], entry["step"]) for entry in diary if entry["event"] == "trained")
    ids = [row.user_attrs["architecture_id"] for row in rows.values()]
    left = [entry for entry in diary if entry["event"] == "left"]
    return {
        "trained": found["trained"],
        "over_budget": max(0, found["trained"] - trials),
        "running": sum(row.state.name == "RUNNING" for row in rows.values()) + found["running"],
        "waiting": sum(row.state.name == "WAITING" for row in rows.values()) + found["waiting"],
        "gaps": sorted(rows) != [*range(len(rows))],
        "duplicates": len(ids) - len(set(ids)),
        "told_twice": len(told) - len({entry["number"] for entry in told}),
        "lost": sum(rows[entry["number"]].state.name != entry["state"] for entry in told),
        "rungs_trained_again": sum(times > 1 for times in trained.values()),
        "taken_over": sum(row.user_attrs["attempt"] > 1 for row in rows.values()),
        "late_writes": sum(entry["late"] for entry in left),
        "grown_mib": max((entry["grown"] for entry in left), default=0.0),
        "retries": dict(sum((Counter(entry["retries"]) for entry in left), Counter[str]())),
        "out_of_reach": sum(entry["event"] == "out of reach" for entry in diary),
        "kept": sum("is kept in" in entry["text"] for entry in diary if entry["event"] == "out of reach"),
        "replayed": sum(entry["new"] for entry in diary if entry["event"] == "replayed"),
        "left_in_spool": len([*folder.rglob("spool/result-*.json")]),
        "errors": [entry["text"] for entry in diary if entry["event"] == "error"],
    }


@contextmanager
def place(kind: str, folder: Path) -> Iterator[tuple[str, postgres.Server | None]]:
    if kind == "sqlite":
        yield sqlite_url(folder), None
        return
    with postgres.running(fsync=True) as server:
        name = f"nas{uuid4().hex[:8]}"
        server.execute(f"CREATE DATABASE {name}")
        yield server.url(name), server


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["sqlite", "postgresql"])
    whole = {"trials": 60, "drivers": 3, "kills": 10, "freezes": 0, "restarts": 0, "double": 0, "outages": 0, "seed": 0}
    for name, default in whole.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--pace", type=float, default=0.01)
    parser.add_argument("--patience", type=float, default=60.0)
    parser.add_argument("--asleep", type=float, default=8.0)
    parser.add_argument("--every", type=float, nargs=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nas-kills-") as name, place(options.kind, Path(name)) as (url, server):
        folder, began = Path(name), time.monotonic()
        Store.create(url, NAME, FILE.objective_list(), {"budget": options.trials}).close()
        fleet = Fleet(url, folder, options)
        try:
            done = disturb(fleet, server, options)
            fleet.fill()
            while fleet.alive:
                fleet.reap()
                time.sleep(0.05)
        finally:
            for pid in fleet.alive:
                os.kill(pid, signal.SIGKILL)
        if server:
            done["connections_left"] = connections(server)
        facts = {**done, "seconds": time.monotonic() - began}
        json.dump(facts | count(url, folder, options.trials), sys.stdout)


if __name__ == "__main__":
    main()
