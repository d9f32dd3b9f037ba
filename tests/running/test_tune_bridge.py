"""What reaches the coordinator when nodes come, go and die, without Ray: the nodes are planted."""

from contextlib import nullcontext

import pytest

from nas.errors import OutOfReach
from nas.running import tune_bridge
from nas.running.events import Interrupted
from nas.running.stop_control import Level, StopControl
from nas.running.tune_bridge import CONTINUE, FINISHED, STOP, Bridge, OneMachine
from tests.running.tables import Launcher, settings


class Nodes:
    """A cluster whose nodes a test adds and kills."""

    def __init__(self, **slots: int):
        self.slots, self.gone, self.changes, self.stops = dict(slots), set(), [], 0
        self.fault_found, self.environment, self.mine = "", {}, None
        self.alive, self.leaving = set(slots), set()

    def free(self, used):
        staying = {name: slots for name, slots in self.slots.items() if name not in self.leaving}
        return next((name for name, slots in staying.items() if used.get(name, 0) < slots), None)

    def departs(self, node):
        self.leaving.add(node)

    def hardware(self, node):
        return f"hardware of {node}"

    def is_gone(self, node, since):
        return True if node in self.gone else (False if node in self.alive else None)

    def has_left(self, node):
        return node not in self.slots

    def fault(self):
        return self.fault_found

    def stop_workers(self):
        self.stops += 1

    def watched(self):
        return nullcontext()


@pytest.fixture
def launched(tmp_path):
    launcher = Launcher(tmp_path, settings("constraints.0.max=100", "search.skip=false", "search.stopping=false"))

    def start(nodes, budget=4):
        coordinator = launcher.coordinator(budget)
        return Bridge(coordinator, StopControl(tmp_path), OneMachine(2), nodes), launcher

    return start


def run(bridge, launcher, trial_id, job):
    """Runs a job to its end, as a worker does."""
    body = launcher.body(job)
    while bridge.result(trial_id, {"event": body.step()}) == CONTINUE:
        pass


def test_jobs_go_to_nodes_with_a_free_place_and_to_a_node_that_joins(launched):
    nodes = Nodes(a=1)
    bridge, launcher = launched(nodes)
    first = bridge.suggest("1")
    assert (first["node"], bridge.suggest("2")) == ("a", None)
    nodes.slots["b"] = 1
    second = bridge.suggest("2")
    assert second["node"] == "b"
    run(bridge, launcher, "1", first["job"])
    assert bridge.suggest("3")["node"] == "a"
    assert launcher.rows()[0].user_attrs["hardware"] == "hardware of a"


def test_trials_of_a_node_that_died_run_elsewhere_and_are_not_to_blame(launched):
    nodes = Nodes(a=1, b=1)
    bridge, launcher = launched(nodes)
    dying, living = bridge.suggest("1"), bridge.suggest("2")
    assert dying["node"] == "a"
    bridge.crashed("1", "the actor died")
    nodes.alive.remove("a")  # nobody knows yet what happened to it
    assert bridge.suggest("3") is None
    nodes.gone.add("a")
    del nodes.slots["a"]
    assert bridge.suggest("3") is None
    run(bridge, launcher, "2", living["job"])
    again = bridge.suggest("3")
    assert (again["node"], again["job"].number, again["job"].attempt) == ("b", dying["job"].number, 2)
    run(bridge, launcher, "3", again["job"])
    row = launcher.rows()[again["job"].number]
    assert row.state.name == "COMPLETE"
    assert "crashes" not in row.user_attrs


def test_a_worker_that_died_while_its_node_lives_counts_as_a_crash(launched):
    nodes = Nodes(a=1)
    bridge, launcher = launched(nodes)
    job = bridge.suggest("1")["job"]
    bridge.crashed("1", "exit code 1")
    again = bridge.suggest("2")
    assert again["job"].number == job.number
    assert launcher.rows()[job.number].user_attrs["crashes"] == 1


def test_a_worker_that_is_told_to_end_saves_and_its_trial_goes_on_at_another_node(launched):
    nodes = Nodes(a=1, b=1)
    bridge, launcher = launched(nodes)
    job = bridge.suggest("1")["job"]
    body = launcher.body(job)
    assert bridge.result("1", {"event": body.step(), "leaving": False}) == CONTINUE
    assert bridge.result("1", {"event": Interrupted(), "done": True, "leaving": True}) == STOP
    assert nodes.leaving == {"a"}
    again = bridge.suggest("2")
    assert (again["node"], again["job"].number, again["job"].attempt) == ("b", job.number, 2)
    assert "crashes" not in launcher.rows()[job.number].user_attrs


def test_a_trial_that_waits_for_a_node_that_left_is_put_back(launched):
    nodes = Nodes(a=1, b=1)
    bridge, _ = launched(nodes)
    waiting = bridge.suggest("1")
    assert bridge.never_started() == []
    del nodes.slots["a"]
    assert bridge.never_started() == ["1"]
    bridge.put_back("1")
    assert bridge.suggest("2")["job"].number == waiting["job"].number


def test_a_stop_reaches_workers_on_other_machines(launched):
    nodes = Nodes(a=1)
    bridge, launcher = launched(nodes)
    job = bridge.suggest("1")["job"]
    bridge.control.raise_to(Level.NOW)
    assert bridge.suggest("2") is None
    assert nodes.stops == 1
    assert bridge.result("1", {"event": launcher.body(job).step()}) == STOP
    assert bridge.suggest("2") == FINISHED
    assert launcher.rows()[0].state.name == "WAITING"


def test_a_cluster_without_any_node_ends_the_search_after_a_while(launched, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(tune_bridge.time, "monotonic", lambda: clock[0])
    told = []
    bridge, _ = launched(Nodes())
    bridge.source.observer = told.append
    assert bridge.suggest("1") is None
    assert [event["for"] for event in told] == ["nodes"]
    clock[0] += tune_bridge.NODELESS_SECONDS + 1
    assert bridge.suggest("1") is None
    assert bridge.suggest("1") == FINISHED
    assert isinstance(bridge.error, OutOfReach)


def test_what_happened_to_nodes_is_told_once(launched):
    nodes, told = Nodes(a=1), []
    bridge, _ = launched(nodes)
    bridge.source.observer = told.append
    nodes.changes.append({"type": "node", "host": "host", "kind": "", "state": "joined", "why": ""})
    bridge.suggest("1")
    bridge.suggest("2")
    assert [event["type"] for event in told] == ["node", "started"]


def test_one_machine_has_its_slots_and_judges_a_lost_worker_at_once(launched):
    bridge, launcher = launched(None)
    job = bridge.suggest("1")["job"]
    assert bridge.suggest("2")["node"] == ""
    assert bridge.suggest("3") is None
    bridge.crashed("1", "exit code 1")
    assert launcher.rows()[job.number].user_attrs["crashes"] == 1
    assert (bridge.fault(), bridge.never_started()) == ("", [])
