"""Whole searches with real trainings share a study while they, their Ray's workers and their sessions are killed.

    python -m tests.study.command_kills sqlite --executors serial serial serial --trials 14 --driver 6 --session 6
    python -m tests.study.command_kills postgresql --executors ray ray --trials 18 --driver 5 --worker 5 --session 5

It prints one JSON object. Each driver is `nas search` as users run it: small models of a text, trained rung by rung,
with checkpoints. A driver that died is started again. `driver` kills the process of a driver alone, `worker` one of its
Ray's workers, `session` the driver and everything that it has started. A victim has told a rung before, and the kills
are spread evenly over the rungs of the whole search.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from nas.study.store import sqlite_url
from tests.running.test_driver import EXACT, TINY
from tests.study.driver_kills import NAME, count, note, place

STUDY = Path(__file__).parents[2] / "search_spaces" / "tiny_lm.toml"
RUNGS = (0.25, 0.5, 1.0)
OTHERS = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""What Ray's processes are called that run no trial."""
LATE = re.compile(r"(\d+) late writes were refused")


class Command:
    """One `nas search`, in a session of its own. Its events are the lines of its standard output."""

    def __init__(self, arguments: list[str], variables: dict[str, str], folder: Path, number: int, ray: bool) -> None:
        self.said, self.errors = folder / f"said-{number}.jsonl", folder / f"errors-{number}.txt"
        self.ray, self.killed, self.other_lines = ray, False, list[str]()
        with self.said.open("w") as said, self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "nas.cli", *arguments],
                env=os.environ | variables,
                cwd=folder,
                stdout=said,
                stderr=errors,
                start_new_session=True,
            )

    def rungs(self) -> int:
        return self.said.read_text().count('"type": "rung"')

    def events(self) -> list[dict[str, Any]]:
        *lines, _ = self.said.read_text().split("\n")  # the last one may be cut by a kill
        self.other_lines = [line for line in lines if not line.startswith("{")]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def workers(self) -> list[psutil.Process]:
        """Ray's workers that run trials."""
        found = []
        for process in self._all():
            with suppress(psutil.Error):
                title = "".join(process.cmdline()[:1])
                found += [process] if title.startswith("ray::") and title not in OTHERS else []
        return found

    def kill(self, what: str, rng: random.Random) -> None:
        if what == "worker":
            for worker in self.workers()[:1]:
                worker.kill()
            return
        victims = self._all() if what == "session" else []
        self.killed = True
        for process in [psutil.Process(self.process.pid), *victims]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()

    def _all(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


class Fleet:
    """Keeps one driver alive for each executor that is asked for."""

    def __init__(self, url: str | None, folder: Path, options: argparse.Namespace) -> None:
        self.folder, self.options, self.over = folder, options, False
        self.all, self.alive = list[Command](), dict[int, Command]()
        (folder / "corpus.txt").write_text("the quick brown fox jumps over the lazy dog. " * 60, encoding="utf-8")
        self.variables = {"NAS_RUNS": str(folder / "runs"), "NAS_REPORTS": str(folder / "reports")}
        if url:
            self.variables["NAS_STORAGE"] = url.replace("+psycopg", "")
        settings = [
            *TINY,
            *EXACT,
            "space.hidden=[16,24,32,48]",
            f"search.trials={options.trials}",
            f"task.corpus={json.dumps(str(folder / 'corpus.txt'))}",
            f"train.steps={options.steps}",
            f"train.rungs={[*RUNGS]}",
            "search.stopping=false",
            "search.skip=false",
        ]
        self.arguments = ["search", str(STUDY), "--study", NAME, "--json", "--no-progress", "--cpus", "1"]
        self.arguments += [part for setting in settings for part in ("-s", setting)]

    def fill(self) -> None:
        for slot, executor in enumerate(self.options.executors):
            if slot not in self.alive:
                arguments = [*self.arguments, "--executor", executor]
                made = Command(arguments, self.variables, self.folder, len(self.all), executor == "ray")
                self.alive[slot] = made
                self.all.append(made)

    def reap(self) -> None:
        """Forgets drivers that ended. One that ended by itself, but for exit code 5, tells that the search is over."""
        for slot, command in list(self.alive.items()):
            if (code := command.process.poll()) is not None:
                self.over |= not command.killed and code != 5
                del self.alive[slot]

    def end(self) -> None:
        for command in self.alive.values():
            command.kill("session", random.Random(0))


def disturb(fleet: Fleet, options: argparse.Namespace) -> Counter[str]:
    """Kills as planned, each time after some more rungs; the workers first, wherever there are any."""
    rng, done = random.Random(options.seed), Counter[str]()
    plan = Counter({what: getattr(options, what) for what in ("worker", "driver", "session")})
    step = options.trials * len(RUNGS) / (plan.total() + 2)
    while done != plan:
        fleet.reap()
        if fleet.over:
            break
        fleet.fill()
        time.sleep(0.05)
        victims = [command for command in fleet.alive.values() if command.rungs()]
        if not victims or sum(command.rungs() for command in fleet.all) < step * (done.total() + 1):
            continue
        victim = rng.choice(victims)
        time.sleep(rng.uniform(0, 0.3))
        left = [what for what in plan if done[what] < plan[what] and (what != "worker" or victim.workers())]
        if left:
            what = rng.choice(left)
            victim.kill(what, rng)
            done[what] += 1
            sys.stderr.write(f"{time.strftime('%X')} killed: {what}\n")
    return done


def write_diaries(fleet: Fleet) -> dict[str, Any]:
    """Writes what each driver has said as the diary that `count` reads. Returns what became of the trainings."""
    begun, reached, anew = set[tuple[int, int]](), set[tuple[int, int]](), 0
    for command in fleet.all:
        attempts = dict[int, int]()
        for event in command.events():
            number = event.get("trial", -1)
            if event["type"] == "started":
                attempts[number] = event["attempt"]
                begun.add((number, event["attempt"]))
            elif event["type"] == "rung" and event["step"] < fleet.options.steps:
                note(fleet.folder, "trained", number=number, step=event["step"], attempt=attempts[number])
                reached.add((number, attempts[number]))
            elif event["type"] == "finished":
                note(fleet.folder, "told", number=number, attempt=attempts[number], state=event["state"])
            elif event["type"] == "restarted":
                anew += 1
        code, said = command.process.returncode, command.errors.read_text()
        if command.other_lines:
            note(fleet.folder, "error", text=f"standard output: {command.other_lines}"[:2000])
        if code == 5:
            note(fleet.folder, "out of reach", text=said[-800:])
        elif code and not command.killed:
            note(fleet.folder, "error", text=f"exit code {code}: {said[-2000:]}")
        late = sum(int(found) for found in LATE.findall(said))
        note(fleet.folder, "left", end="", late=late, grown=0.0, retries={})
    continued = sum(any(n == number and a < attempt for n, a in reached) for number, attempt in begun)
    return {"begun_anew": anew, "continued": continued, "drivers": len(fleet.all)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["sqlite", "postgresql"])
    parser.add_argument("--executors", nargs="+", choices=["ray", "serial"], default=["serial"] * 2)
    for name, default in {"trials": 12, "steps": 1200, "driver": 0, "worker": 0, "session": 0, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nas-kills-") as name, place(options.kind, Path(name)) as (url, server):
        folder, began = Path(name), time.monotonic()
        fleet = Fleet(url if server else None, folder, options)
        try:
            done = disturb(fleet, options)
            fleet.reap()
            while fleet.alive or not fleet.over:
                if not fleet.over:
                    fleet.fill()
                fleet.reap()
                time.sleep(0.05)
        finally:
            fleet.end()
        stored = url if server else sqlite_url(folder / "runs" / NAME)
        facts = {**done, "seconds": time.monotonic() - began, **write_diaries(fleet)}
        facts["report"] = (folder / "reports" / NAME / "index.html").exists()
        json.dump(facts | count(stored, folder, options.trials), sys.stdout)


if __name__ == "__main__":
    main()
