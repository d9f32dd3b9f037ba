"""A search on a Ray cluster of two nodes on this machine: nodes die and join, other searches come.

Everything is real but the training, which sleeps.
"""

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster

from nas.study import open_study
from tests.own_study import METRICS

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(1000),
    pytest.mark.usefixtures("ray_in_this_process"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]
BUDGET = 40
STUDY = f"""
name = "shared"
[trial]
body = "sleeping:train"
[space.parameters]
a = {{ low = 1, high = 100 }}
b = {{ low = 1, high = 100 }}
[train]
steps = 2
rungs = [0.5, 1.0]
[search]
trials = {BUDGET}
stopping = false
skip = false
{METRICS}
"""
BODY = """
import os, time, pathlib
from nas.body import Finished, Measured, Reached

FOLDER = pathlib.Path(os.path.dirname(os.path.abspath(__file__)))
PLACES, TENTHS = FOLDER / "places", int((FOLDER / "tenths").read_text())

def train(job):
    import ray
    node = ray.get_runtime_context().get_node_id()
    (PLACES / f"{job.number}-{job.attempt}-{node}-begun").touch()
    yield Measured({"size": job.parameters["a"]})
    for step in job.rungs:
        for _ in range(TENTHS):
            time.sleep(0.1)
            if job.should_stop():
                return
        if step < job.steps:
            yield Reached(step, {"error": job.parameters["b"] / step})
    (PLACES / f"{job.number}-{job.attempt}-{node}-ended").touch()
    yield Finished({"error": job.parameters["b"] / job.steps})
"""


class Searches:
    """Searches in a folder, each in a process of its own, on one cluster. A rung takes some tenths of a second."""

    def __init__(self, folder: Path, address: str):
        self.folder, self.address, self.processes = folder, address, list[subprocess.Popen]()
        (folder / "places").mkdir()
        (folder / "sleeping.py").write_text(BODY)
        self.take(4)
        (folder / "shared.toml").write_text(STUDY)

    def take(self, tenths: int) -> None:
        (self.folder / "tenths").write_text(str(tenths))

    def start(self, *options: str) -> subprocess.Popen:
        said = (self.folder / f"said{len(self.processes)}.txt").open("w")
        variables = os.environ | {"NAS_RUNS": str(self.folder / "runs"), "NAS_REPORTS": str(self.folder / "reports")}
        command = [sys.executable, "-m", "nas.cli", "search", "shared.toml", "--ray-address", self.address, *options]
        started = subprocess.Popen(
            command, cwd=self.folder, env=variables, stdout=said, stderr=said, start_new_session=True
        )
        self.processes.append(started)
        return started

    def said(self, number: int = -1) -> str:
        return (self.folder / f"said{number % len(self.processes)}.txt").read_text()

    def on(self, node: str, state: str) -> set[tuple[int, int]]:
        """The attempts, (number, attempt), that have begun or ended on a node."""
        names = [path.name.split("-") for path in (self.folder / "places").iterdir()]
        return {(int(number), int(attempt)) for number, attempt, place, what in names if (place, what) == (node, state)}

    def under_way(self, node: str) -> set[tuple[int, int]]:
        """The attempts that have begun on a node and not ended there."""
        return self.on(node, "begun") - self.on(node, "ended")

    def wait(self, happened, seconds: float = 300) -> float:
        """Returns the seconds until that happened. A busy machine takes minutes to start what is started here."""
        started = time.monotonic()
        while not happened():
            assert self.processes[-1].poll() is None, self.said()
            assert time.monotonic() - started < seconds, self.said()
            time.sleep(0.1)
        return time.monotonic() - started


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "labels": {"nas.hardware": "old"}})
    yield made
    made.shutdown()


@pytest.fixture
def searches(tmp_path: Path, cluster: Cluster) -> Iterator[Searches]:
    made = Searches(tmp_path, cluster.address)
    yield made
    for process in made.processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


def kill(node) -> None:
    """SIGKILL to a raylet and all of its workers at once."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    for process in [raylet, *raylet.children(recursive=True)]:
        process.kill()


def test_a_killed_nodes_trials_end_elsewhere_and_a_node_that_joins_gets_trials(cluster, searches):
    dying = cluster.add_node(num_cpus=1, labels={"nas.hardware": "old"})
    searches.take(10)
    driver = searches.start()
    searches.wait(lambda: searches.on(dying.node_id, "ended") and searches.under_way(dying.node_id))
    kill(dying)
    lost = searches.under_way(dying.node_id)
    assert lost
    joining = cluster.add_node(num_cpus=1, labels={"nas.hardware": "old"})
    seconds = searches.wait(lambda: searches.on(joining.node_id, "begun"), 60)
    assert driver.wait(600) == 0, searches.said()
    study = open_study(searches.folder / "runs" / "shared")
    trials = study.trials()
    assert sum(trial.trained for trial in trials) == BUDGET
    assert {str(trial.state) for trial in trials} == {"COMPLETE"}
    assert len({trial.number for trial in trials}) == len(trials) == BUDGET
    ends = defaultdict(list)
    for node in (cluster.head_node.node_id, dying.node_id, joining.node_id):
        for number, attempt in searches.on(node, "ended"):
            ends[number].append((attempt, node))
    assert set(ends) == set(range(BUDGET))
    for number, _ in lost:
        assert all(node != dying.node_id for attempt, node in ends[number] if attempt > 1)
    rows = study.store.rows()
    assert all("crashes" not in row.user_attrs for row in rows)
    assert all(row.user_attrs["hardware"] for row in rows)
    assert searches.on(joining.node_id, "ended")
    sys.stdout.write(f"the node that joined began a trial after {seconds:.0f} s\n")
    assert "has left the cluster" in searches.said()
    assert "(raylet)" not in searches.said()


@pytest.mark.parametrize("how", ["a worker is told to end", "Ray drains the node", "its raylet is told to end"])
def test_trials_of_a_node_that_is_about_to_end_save_and_go_on_elsewhere(cluster, searches, how):
    ending = cluster.add_node(num_cpus=1, labels={"nas.hardware": "old"})
    searches.take(40)  # longer than the news of a drained node takes
    driver = searches.start("--trials", "10")
    searches.wait(lambda: searches.on(ending.node_id, "ended") and searches.under_way(ending.node_id))
    raylet = psutil.Process(ending.all_processes["raylet"][0].process.pid)
    if how == "a worker is told to end":
        for worker in raylet.children(recursive=True):
            if "TrialActor" in worker.cmdline()[0]:
                worker.terminate()
    elif how == "Ray drains the node":
        drain = ["drain-node", "--address", cluster.address, "--node-id", ending.node_id, "--reason-message", "test"]
        drain += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--deadline-remaining-seconds", "60"]
        subprocess.run([sys.executable, "-m", "ray.scripts.scripts", *drain], check=True, capture_output=True)
    else:
        raylet.terminate()
    assert driver.wait(600) == 0, searches.said()
    moved = searches.under_way(ending.node_id)
    assert moved
    assert ("has left" if how == "its raylet is told to end" else "is about to end") in searches.said()
    trials = open_study(searches.folder / "runs" / "shared").trials()
    assert [str(trial.state) for trial in trials] == ["COMPLETE"] * 10
    assert {number for number, _ in moved} <= {number for number, _ in searches.on(cluster.head_node.node_id, "ended")}
    assert all("crashes" not in row.user_attrs for row in open_study(searches.folder / "runs" / "shared").store.rows())


def test_who_may_not_search_is_refused_before_anything_starts_and_a_stop_reaches_every_node(cluster, searches):
    cluster.add_node(num_cpus=1, labels={"nas.hardware": "new"})
    unknown = searches.start("-s", 'resources.hardware="newest"')
    assert unknown.wait(120) == 2
    assert "new (1), old (1)" in searches.said()
    assert not (searches.folder / "runs").exists()
    first = searches.start("-s", 'resources.hardware="old"', "--trials", "1000")
    old = cluster.head_node.node_id
    searches.wait(lambda: searches.on(old, "ended"))
    second = searches.start("--study", "second", "--cpus", "1")
    assert second.wait(120) == 4
    assert "another search runs on this cluster" in searches.said()
    beside = searches.start("--study", "beside", "-s", 'resources.hardware="new"', "--trials", "3")
    assert beside.wait(180) == 0, searches.said()
    assert {str(trial.state) for trial in open_study(searches.folder / "runs" / "beside").trials()} == {"COMPLETE"}
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 143
    assert {str(trial.state) for trial in open_study(searches.folder / "runs" / "shared").trials()} <= {
        "COMPLETE",
        "WAITING",
    }
