"""`--json`: every documented key is emitted, and every emitted key is documented (docs/commands.md)."""

import json
import re
from pathlib import Path

import pytest

import nas as nas_package
from nas.api import checking
from nas.bench import driver
from nas.data import fetch
from nas.measurement import TimedMetrics
from nas.running import events, measuring
from nas.running.events import Interrupted, Restarted
from nas.study.drivers import DriverStatus, StopRequest
from nas.study.study_drivers import as_data
from tests import documented
from tests.running.tables import Launcher
from tests.running.tables import settings as table_settings
from tests.running.test_busy_machine import again, reading, searched

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
OPTIONAL = {"waiting": {"trial"}}
NOT_HERE = {"released", "waiting", "stopping", "budget", "remeasured", "restarted", "node"}
NOT_HERE |= {"confirming", "confirmation"}  # see tests/cli/test_confirm.py
"""Events that a short undisturbed search with exact objectives on one machine has no reason for."""


def table(heading: str) -> list[list[str]]:
    """The rows of the first table below the heading."""
    below = PAGE[PAGE.index(heading) :]
    lines = below[below.index("|---") :].splitlines()[1:]
    rows = lines[: next(i for i, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip() for cell in row.strip("|").split(" |")] for row in rows]


def keys(cell: str) -> set[str]:
    """What is set as code in the part that lists keys; what stands in brackets says what is in them."""
    listed = re.sub(r"\([^()]*\)", "", cell).split(";")[0]
    return set(re.findall(r"`([a-z_0-9]+)`", listed))


EVENTS = {row[0].strip("`"): keys(row[1]) for row in table("write these events as they happen")}
OTHERS = {
    (row[0].strip("`"), kind): keys(row[2])
    for row in table("### Keys of the other commands")
    for kind in re.findall(r"`(\w+)`", row[1])
}


def emitted(out: str) -> list[tuple[str, set[str]]]:
    """(type, keys besides v and type) of every line."""
    lines = [json.loads(line) for line in out.splitlines()]
    assert all(line["v"] == 1 for line in lines)
    return [(line["type"], line.keys() - {"v", "type"}) for line in lines]


def sizes(architecture, task, *_):
    weights = checking.parameters(architecture, task) / 2**18
    return TimedMetrics({"params": 100.0, "weights_mib": weights, "contended": 0.0})


@pytest.fixture
def exact(settings, tmp_path, monkeypatch):
    """A study file whose objectives are exact, and whose latencies are not measured."""
    monkeypatch.setattr(measuring, "_measure", sizes)
    monkeypatch.setattr(measuring, "_count", lambda *arguments: {})
    monkeypatch.setattr(checking, "TIMED_SECONDS", 0.0)
    file = settings.to_toml().replace('metric = "decode_ms_per_token"', 'metric = "params"').replace("demo", "exact")
    (tmp_path / "exact.toml").write_text(file)
    monkeypatch.setenv("NAS_RUNS", str(tmp_path / "runs"))
    return tmp_path / "exact.toml"


@pytest.mark.slow
def test_events_of_a_search(nas, exact):
    ran = nas("search", exact, "--json", "--executor", "serial", "--trials", "2")
    assert ran.code == 0, ran.err
    told = [(kind, found) for kind, found in emitted(ran.out) if kind not in NOT_HERE]
    assert {kind for kind, _ in told} == EVENTS.keys() - NOT_HERE
    for kind, found in told:
        assert found == EVENTS[kind], kind


def rare_events(folder: Path) -> list[dict]:
    """Those of a search that waits, is interrupted, and has the front measured again."""
    told = [events.waiting("ray"), events.notice(Restarted("why"), 0), events.waiting("device", 0)]
    coordinator = Launcher(folder, table_settings()).coordinator(1, observer=told.append)
    coordinator.report(coordinator.next_job(), Interrupted())
    coordinator.close()
    study, _ = searched(folder, [reading(0.2)])
    told += again(study, {0: [reading(0.2)]})
    study.store.close()
    return told


def test_events_that_a_short_search_has_no_reason_for(tmp_path):
    told = rare_events(tmp_path)
    assert {event["type"] for event in told} >= NOT_HERE - {"budget", "stopping", "node", "confirming", "confirmation"}
    for event in told:
        keys_of_it = event.keys() - {"type"}
        assert EVENTS[event["type"]] - OPTIONAL.get(event["type"], set()) <= keys_of_it <= EVENTS[event["type"]], event


@pytest.mark.slow
def test_events_of_the_end_of_the_time_and_of_a_smaller_budget(nas, exact):
    ran = nas("search", exact, "--json", "--executor", "serial", "--trials", "3", "--time", "0.001s")
    assert ("stopping", EVENTS["stopping"]) in emitted(ran.out)
    ran = nas("search", exact, "--json", "--executor", "serial", "--trials", "1")
    assert ("budget", EVENTS["budget"]) in emitted(ran.out)


def test_keys_of_the_front(nas):
    (documented,) = re.findall(r"`json` is a list of\s+`{([a-z_, ]+)}`", PAGE)
    for member in json.loads(nas("front", "demo", "--format", "json").out):
        assert member.keys() == set(documented.split(", "))


@pytest.mark.usefixtures("parts_in_this_process")
def test_keys_of_a_replay(nas, tmp_path):
    """The benchmark that takes no time. Those that measure or train are held to their keys in tests/bench."""
    (tmp_path / "table.csv").write_text("p,a,b\n" + "".join(f"{n},{n},{9 - n}\n" for n in range(9)))
    options = ["--params", "p", "--objectives", "a:min,b:min", "--samplers", "random", "--trials", 3, "--seeds", 1]
    ((kind, found),) = emitted(nas("bench", "samplers", "table.csv", *options, "--jobs", 1, "--json").out)
    assert (kind, found) == ("result", documented.keys_of_json("nas bench samplers"))


def test_keys_of_the_overhead_of_a_driver(nas, monkeypatch):
    keys = ("driver_cpu_seconds_per_trial", "startup_seconds", "ending_seconds")
    times = {"ours": 0.1, "stock": 1.5}
    monkeypatch.setattr(
        driver, "_run", lambda who, trials, place: {"seconds_per_trial": times[who]} | dict.fromkeys(keys, times[who])
    )
    ((kind, found),) = emitted(nas("bench", "driver", "--trials", "20", "--json").out)
    assert (kind, found) == ("result", documented.keys_of_json("nas bench driver"))


def test_version(nas):
    assert nas("--version").out == f"nas {nas_package.__version__}\n"


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("nas status", ["status", "demo"]),
        ("nas list", ["list"]),
        ("nas show", ["show", "demo", "0"]),
        ("nas show", ["show", "demo", "2"]),
        ("nas doctor", ["doctor"]),
        ("nas data list", ["data", "list"]),
    ],
)
def test_keys_of_commands(nas, command, arguments):
    for kind, found in emitted(nas(*arguments, "--json").out):
        assert found == OTHERS[command, kind], kind


def test_keys_of_a_dry_run(nas, exact):
    ((kind, found),) = emitted(nas("search", exact, "--dry-run", "--json").out)
    assert found == OTHERS["nas search --dry-run", kind]


def test_keys_of_a_fork(nas, runs):
    ((kind, found),) = emitted(nas("fork", "demo", "twin", "--json").out)
    assert found == OTHERS["nas fork", kind]


def test_keys_of_a_driver_in_status():
    told = PAGE[PAGE.index("`drivers` lists those") :].split(". The text shows")[0]
    status = DriverStatus("d", 0, "h", 1, "cpu", 0.0, 0.0, StopRequest.GO, False, True, ())
    assert as_data(status).keys() | {"drivers"} == set(re.findall(r"`([a-z_]+)`", told))


def test_keys_of_a_fetch(nas, monkeypatch):
    monkeypatch.setattr(fetch, "present", lambda dataset: Path("here"))
    monkeypatch.setattr(fetch, "content", lambda dataset: b"")
    ((kind, found),) = emitted(nas("data", "fetch", "babi", "--json").out)
    assert found == OTHERS["nas data fetch", kind]


def test_keys_of_preparing_and_cleaning(nas, exact, tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    for arguments in (["data", "prepare", exact], ["data", "clean"]):
        ((kind, found),) = emitted(nas(*arguments, "--json").out)
        assert found == OTHERS["nas " + " ".join(arguments[:2]), kind]


def test_a_study_that_cannot_be_read_has_an_error(nas, runs):
    (runs / "broken").mkdir()
    (runs / "broken" / "study.db").write_bytes(b"no database")
    assert ("study", {"study", "error"}) in emitted(nas("list", "--json").out)


def test_every_command_with_json_is_held_to_its_keys():
    tested = {command for command, _ in OTHERS}
    assert tested == {
        *("nas fork", "nas search --dry-run", "nas status", "nas list", "nas show", "nas doctor"),
        *("nas confirm", "nas data list", "nas data fetch", "nas data prepare", "nas data clean"),
    }
