"""Whole drivers with samplers and stopping rules share a study: one is killed, one comes later; then all is compared.

    python -m tests.study.searching_together URL --trials 30

It prints one JSON object. Trainings are closed formulas with simulated seconds; each driver is a process of its own.
When the others are done, each one that stays compares what its sampler and its stopping rule know with a rebuild from
the rows.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from nas.architecture import Architecture
from nas.running import serial_executor as serial
from nas.running.coordinator import Coordinator
from nas.running.events import Event, Measured
from nas.running.stop_control import StopControl
from nas.study.drivers import Drivers, Heartbeat
from nas.study.job_tables import JOBS, Phase
from nas.study.leases import join
from nas.study.store import Store
from nas.study.study_jobs import StudyJobs
from nas.study.transactions import Database
from tests.running.tables import Disk, TableBody, settings

NAME, GRACE = "together", 30.0
FILE = settings('objectives=[{metric="val_loss"},{metric="params"}]', "constraints=[]", "search.sampler=tpe")


class Body(TableBody):
    """A training that takes its time, so that drivers overlap."""

    def step(self) -> Event:
        time.sleep(0.01)
        event = super().step()
        if isinstance(event, Measured):
            architecture = Architecture.model_validate(dict(self.job.architecture))
            return Measured({**event.metrics, "params": float(architecture.depth * architecture.hidden)})
        return event


def drive(url: str, folder: Path, trials: int) -> None:
    """One driver, until the search ends. What it knows then is written into a file."""
    database = Database(url)
    leases = join(database, NAME, trials, grace=GRACE)
    told: list[dict[str, Any]] = []
    with Heartbeat(Drivers(leases.jobs, GRACE), leases.driver, 1.0) as heartbeat:
        coordinator = Coordinator(leases, FILE, observer=told.append, expired=lambda: heartbeat.expired)
        disk = Disk()
        serial.run(coordinator, lambda job: Body(job, disk), StopControl(folder, driver=leases.driver.id))
        coordinator.next_job()  # takes in what others have told last
        known, rebuilt = state_of(coordinator), state_of(Coordinator(leases, FILE))
        coordinator.close()
        leases.leave()
    found = {
        "end": str(coordinator.end),
        "finished": sum(event["type"] == "finished" for event in told),
        "waited": sum(event["type"] == "waiting" for event in told),
        "late_writes": leases.late_writes,
        "sampler differs": [n for n in rebuilt[0].keys() | known[0] if known[0].get(n) != rebuilt[0].get(n)],
        "stopping rule differs": [n for n in rebuilt[1].keys() | known[1] if known[1].get(n) != rebuilt[1].get(n)],
        "rows": len(rebuilt[0]),
    }
    (folder / f"{os.getpid()}.json").write_text(json.dumps(found))


def state_of(coordinator: Coordinator) -> tuple[dict[int, Any], dict[int, Any]]:
    """What the sampler is shown of each row, and what the stopping rule knows of each trial, by number."""
    proposer, rule = coordinator._proposals._proposer, coordinator._early_endings.stopping
    trials = {number: proposer._trial(mirror_id) for number, mirror_id in proposer._ids.items()}
    shown = {number: (t.state, t.values, t.params, t.user_attrs, dict(t.constraints)) for number, t in trials.items()}
    known = {
        number: (dict(p.metrics), tuple(p.rungs), p.complete, p.feasible or not p.complete)
        for number, p in rule._trials.items()
    }
    return shown, known


def trained(jobs: StudyJobs) -> int:
    count = sql.select(sql.func.count()).where(JOBS.c.study_id == jobs.study_id, JOBS.c.phase == Phase.TRAINED)
    return int(jobs.database.read(lambda connection: connection.execute(count).scalar_one()))


def begin(url: str, folder: Path, trials: int) -> int:
    if pid := os.fork():
        return pid
    code = 1
    try:
        drive(url, folder, trials)
        code = 0
    finally:
        os._exit(code)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--drivers", type=int, default=3)
    arguments = parser.parse_args()
    url, trials = arguments.url, arguments.trials
    Store.create(url, NAME, FILE.objective_list(), {"budget": trials}).close()
    with tempfile.TemporaryDirectory(prefix="nas-together-") as name:
        folder = Path(name)
        alive = {begin(url, folder, trials) for _ in range(arguments.drivers - 1)}
        store = Store.open(url, NAME)
        jobs, killed = StudyJobs(store.database, store.study_id), 0
        while arguments.drivers > 2 and trained_soon(jobs) < trials // 4:
            time.sleep(0.02)
        if arguments.drivers > 2:
            alive.discard(killed := min(alive))
            os.kill(killed, signal.SIGKILL)
            os.waitpid(killed, 0)
            alive.add(begin(url, folder, trials))
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in sorted(alive)]
        found = [json.loads((folder / f"{pid}.json").read_text()) for pid in sorted(alive) if not any(codes)]
        rows = store.rows()
        ids = Counter(row.user_attrs["architecture_id"] for row in rows)
        owners = Counter(int(row.user_attrs["owner"].rpartition(":")[2]) for row in rows)
        facts = {
            "codes": codes,
            "states": Counter(row.state.name for row in rows),
            "trained": trained(jobs),
            "duplicates": sum(ids.values()) - len(ids),
            "gaps": [row.number for row in rows] != [*range(len(rows))],
            "attempts": max(row.user_attrs["attempt"] for row in rows),
            "by_driver": [owners[pid] for pid in sorted({*alive, killed} - {0})],
            "drivers": found,
        }
        store.close()
        json.dump(facts, sys.stdout)


def trained_soon(jobs: StudyJobs) -> int:
    """Returns how many trials are trained; 0 before a driver has made the tables."""
    ready = jobs.database.read(lambda connection: sql.inspect(connection).has_table(JOBS.name))
    return trained(jobs) if ready else 0


if __name__ == "__main__":
    main()
