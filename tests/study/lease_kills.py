"""Drivers that share a study are killed and frozen at random; then everything is counted.

    python -m tests.study.lease_kills URL --trials 60 --drivers 4 --kills 10

It prints one JSON object. Each driver runs three jobs at a time, of two rungs each; a fifth of them fail or break a
limit. What a driver has seen confirmed stands in a file of its own, which is compared with the database.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

from optuna.trial import TrialState

from nas.study.drivers import Drivers, Heartbeat
from nas.study.job_answers import Answer, Lease, Lost
from nas.study.leases import Leases
from nas.study.study_jobs import StudyJobs
from nas.study.transactions import Database
from tests.study.shared_study import NAME, SharedStudy, new

GRACE, BEAT = 1.5, 0.3
AT_ONCE, RUNGS = 3, 2


class Diary:
    """A file to which each line is written at once, so that it survives its writer."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / f"{os.getpid()}-{uuid4().hex}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, **entry: Any) -> None:
        os.write(self._file, (json.dumps(entry) + "\n").encode())


def drive(url: str, folder: Path, choices: int, seed: int) -> None:
    """One driver, until the budget is reached."""
    rng, diary = random.Random(seed), Diary(folder)
    jobs = StudyJobs.of_name(Database(url, patience=30, hang=4), NAME)
    drivers = Drivers(jobs, GRACE)
    driver = drivers.register()
    leases, running, steps = Leases(jobs, driver, GRACE), dict[int, Lease](), Counter[int]()
    nonce, proposal, ended = uuid4().hex, None, False
    next_try = 0.0
    with Heartbeat(drivers, driver, BEAT):
        while not ended or running:
            answer: Any = Answer.WAIT
            while len(running) < AT_ONCE and not ended and time.monotonic() >= next_try:
                answer = leases.acquire(nonce, proposal)
                if isinstance(answer, Lease):
                    running[answer.job_id], nonce, proposal = answer, uuid4().hex, None
                    diary.write(event="begun", number=answer.number, attempt=answer.attempt, origin=answer.origin)
                elif answer in (Answer.PROPOSE, Answer.DUPLICATE):
                    proposal = new(f"k{rng.randrange(choices)}")
                else:
                    ended, next_try = answer is Answer.END, time.monotonic() + 0.1
                    break
            if not running:
                time.sleep(0.05)
                continue
            job_id = rng.choice(list(running))
            lease = running[job_id]
            time.sleep(rng.uniform(0.001, 0.006))
            try:
                if steps[job_id] < RUNGS:
                    steps[job_id] += 1
                    leases.rung(lease, steps[job_id], f"rung-{steps[job_id]}.a{lease.attempt}", {})
                    continue
                tell(leases, lease)
                diary.write(event="told", number=lease.number, attempt=lease.attempt)
            except Lost:
                diary.write(event="lost", number=lease.number, attempt=lease.attempt)
            del running[job_id], steps[job_id]
    leases.leave()
    diary.write(event="left", retries=dict(jobs.database.retries))


def tell(leases: Leases, lease: Lease) -> None:
    """The fate of a trial hangs on its number alone, so that every attempt ends alike."""
    fate = random.Random(lease.number).random()
    if fate < 0.1:
        leases.tell(lease, TrialState.FAIL, None, trained=False, attributes={"reason": "nan"})
    elif fate < 0.2:
        leases.tell(lease, TrialState.PRUNED, None, trained=False, violations={"params": 1.0})
    else:
        values = [float(lease.number or 0), float(lease.attempt)]
        leases.tell(lease, TrialState.COMPLETE, values, trained=True, violations={"params": -1.0})


class Fleet:
    """Keeps so many drivers alive, each a fork of this process."""

    def __init__(self, url: str, folder: Path, arguments: argparse.Namespace) -> None:
        self.url, self.folder, self.arguments, self.alive, self.begun = url, folder, arguments, set[int](), 0

    def fill(self) -> None:
        while len(self.alive) < self.arguments.drivers:
            self.begun += 1
            seed = self.arguments.seed * 1000 + self.begun
            if (pid := os.fork()) == 0:
                code = 1
                try:
                    drive(self.url, self.folder, self.arguments.trials * 2, seed)
                    code = 0
                except BaseException as error:
                    Diary(self.folder).write(event="error", text=repr(error)[-800:])
                    raise
                finally:
                    os._exit(code)
            self.alive.add(pid)

    def reap(self) -> bool:
        """Forgets drivers that ended, and tells whether one of them had seen the end of the search."""
        saw_the_end = False
        for pid in list(self.alive):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                self.alive.discard(pid)
                saw_the_end |= os.WIFEXITED(status)
        return saw_the_end


def begun_by(folder: Path) -> Counter[int]:
    """How many attempts each driver has begun, by its process."""
    return Counter({int(f.name.partition("-")[0]): f.read_bytes().count(b'"begun"') for f in folder.glob("*.jsonl")})


def disturb(fleet: Fleet, arguments: argparse.Namespace) -> Counter[str]:
    """Kills drivers that have jobs, and stops some for longer than the grace period, each after some more attempts."""
    rng, done, asleep = random.Random(arguments.seed), Counter[str](), dict[int, float]()
    plan = ["kills"] * arguments.kills + ["frozen"] * arguments.freezes
    rng.shuffle(plan)
    while done.total() < len(plan) or asleep:
        for pid in [pid for pid, until in asleep.items() if time.monotonic() > until]:
            os.kill(pid, signal.SIGCONT)
            del asleep[pid]
        fleet.fill()
        time.sleep(0.02)
        if fleet.reap() and not asleep:
            break
        begun = begun_by(fleet.folder)
        victims = [pid for pid in sorted(fleet.alive - asleep.keys()) if begun[pid]]
        due = begun.total() >= arguments.trials * done.total() / (len(plan) + 1)
        if not victims or not due or done.total() == len(plan):
            continue
        victim, what = rng.choice(victims), plan[done.total()]
        done[what] += 1
        os.kill(victim, signal.SIGKILL if what == "kills" else signal.SIGSTOP)
        if what == "frozen":
            asleep[victim] = time.monotonic() + 1.5 * GRACE
    return done


def count(url: str, folder: Path) -> dict[str, Any]:
    """Compares the database with itself and with what the drivers have seen."""
    study = SharedStudy(url)
    trials, jobs = study.trials(), {row["number"]: row for row in study.table()}
    study.close()
    diary = [json.loads(line) for file in folder.glob("*.jsonl") for line in file.read_text().splitlines()]
    told = [(entry["number"], entry["attempt"]) for entry in diary if entry["event"] == "told"]
    begun = Counter((entry["number"], entry["attempt"]) for entry in diary if entry["event"] == "begun")
    ids = [trial.user_attrs["architecture_id"] for trial in trials]
    finished = {number: row for number, row in jobs.items() if row["phase"] in ("trained", "other")}
    return {
        "trained": sum(row["phase"] == "trained" for row in jobs.values()),
        "unfinished": sum(not trial.state.is_finished() for trial in trials) + len(jobs) - len(finished),
        "gaps": sorted(trial.number for trial in trials) != [*range(len(trials))],
        "duplicates": len(ids) - len(set(ids)),
        "told_twice": len(told) - len({number for number, _ in told}),
        "lost": sum(number not in finished or finished[number]["attempt"] != attempt for number, attempt in told),
        "half_told": sum(
            trial.state is TrialState.COMPLETE and trial.values != [trial.number, jobs[trial.number]["attempt"]]
            for trial in trials
        ),
        "begun_twice": sum(times > 1 for times in begun.values()),
        "taken_over": sum(e.get("origin") == "taken over" for e in diary),
        "late_writes": sum(entry["event"] == "lost" for entry in diary),
        "retries": dict(sum((Counter(e["retries"]) for e in diary if e["event"] == "left"), Counter[str]())),
        "errors": [entry["text"] for entry in diary if entry["event"] == "error"],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    for name, default in {"trials": 60, "drivers": 4, "kills": 10, "freezes": 0, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    study = SharedStudy(arguments.url)
    study.prepared(arguments.trials)
    study.close()
    with tempfile.TemporaryDirectory(prefix="nas-kills-") as name:
        fleet, began = Fleet(arguments.url, Path(name), arguments), time.monotonic()
        try:
            done = disturb(fleet, arguments)
            fleet.fill()
            while fleet.alive:
                fleet.reap()
                time.sleep(0.02)
        finally:
            for pid in fleet.alive:
                os.kill(pid, signal.SIGKILL)
        facts = {"kills": done["kills"], "frozen": done["frozen"], "seconds": time.monotonic() - began}
        json.dump(facts | count(arguments.url, Path(name)), sys.stdout)


if __name__ == "__main__":
    main()
