"""Studies in PostgreSQL, through the commands: read by whoever may only read, and from any machine."""

import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nas.bench import driver as bench_driver
from nas.measurement import TimedMetrics
from nas.running import measuring
from nas.study import server_studies, whole_study
from nas.study.database_place import database_place
from nas.study.drivers import Drivers, StopRequest
from nas.study.job_preparation import prepare
from nas.study.store import Store
from nas.study.stored_study import open_study
from nas.study.study_jobs import StudyJobs
from nas.study.transactions import Database
from nas.study.whole_study import WholeStudy
from tests.study import postgres

pytestmark = pytest.mark.slow
READER, SECRET = "reader", "h}{u%nter2"
READING = (
    ("status", "demo"),
    ("list",),
    ("front", "demo"),
    ("show", "demo", 0),
    ("report", "demo"),
)
_numbers = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.running() as server:
        server.execute(f"CREATE ROLE {READER} LOGIN PASSWORD '{SECRET}'")
        yield server


def copied(stored: Path, url: str, name: str = "demo") -> None:
    """Copies the stored study into the database."""
    study = open_study(stored / "demo")
    attributes = study.store.attributes() | {"settings": study.file.resolved() | {"name": name}}
    content = WholeStudy(
        study.file.objective_list(), attributes, study.store.rows(), 6, whole_study.jobs_of(study.store)
    )
    with closing(Database(url)) as database:
        whole_study.write(database, name, content)


@pytest.fixture(scope="module")
def template(server, stored) -> str:
    server.execute("CREATE DATABASE with_demo")
    copied(stored, server.url("with_demo"))
    return "with_demo"


@pytest.fixture
def url(server, template) -> str:
    """The address of a database of this test's own, with the study `demo`."""
    name = f"test_{next(_numbers)}"
    server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return server.url(name).replace("+psycopg", "")


@pytest.fixture
def elsewhere(nas, tmp_path, monkeypatch) -> Path:
    """A machine that has no folder of any study."""
    monkeypatch.setenv("NAS_RUNS", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("NAS_STORAGE", raising=False)
    return tmp_path / "none"


def change(url: str, *statements: str) -> None:
    with closing(database_place(url).connect()) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def test_whoever_may_only_read_reads_everything_and_creates_nothing(nas, server, url, elsewhere, monkeypatch):
    change(url, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER}")
    theirs = url.replace("nas@", f"{READER}@")
    monkeypatch.setenv("PGPASSWORD", SECRET)
    for command in READING:
        ran = nas(*command, "--storage", theirs)
        assert ran.code == 0, ran.err
        assert SECRET not in ran.out + ran.err
    assert not elsewhere.exists()
    assert json.loads(nas("front", "demo", "--storage", theirs, "--format", "json").out)


def test_it_reads_as_its_twin_in_a_folder_does(nas, url, elsewhere, stored, monkeypatch):
    over, local = (("--storage", url), ("--storage", "local"))
    monkeypatch.setenv("NAS_RUNS", str(stored))
    for command in (("front", "demo"), ("front", "demo", "--format", "csv")):
        here = nas(*command, *local).out
        assert nas(*command, *over).out.replace(f" --storage {database_place(url)}", "") == here
    there, here = (json.loads(nas("status", "demo", "--json", *where).out) for where in (over, local))
    assert (there["storage"], here["storage"]) == (str(database_place(url)), None)
    assert "belongs to another study" in there["missing_files"]
    assert {k: v for k, v in there.items() if k not in ("storage", "missing_files")} == {
        k: v for k, v in here.items() if k not in ("storage", "missing_files")
    }


def test_what_is_missing_on_this_machine_is_told(nas, url, elsewhere):
    storage = ("--storage", url)
    assert "this machine has no folder" in " ".join(nas("status", "demo", *storage).out.split())
    assert "weights are missing" in nas("show", "demo", 0, *storage).err
    assert "no attention maps" in nas("report", "demo", *storage).err
    ran = nas("generate", "demo", 0, "--prompt", "a", *storage)
    assert ran.code == 2
    assert "this machine has no folder" in ran.err
    assert f"nas train demo --storage {url} 0" in ran.err


def test_the_variable_and_the_configuration_name_the_database_too(nas, url, elsewhere, tmp_path, monkeypatch):
    config = tmp_path / "config" / "nas" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'[storage]\nurl = "{url}"\n')
    assert nas("status", "demo").code == 0
    config.unlink()
    assert nas("status", "demo").code == 2
    monkeypatch.setenv("NAS_STORAGE", url)
    assert nas("status", "demo").code == 0
    assert "nas train demo 0 --steps" in nas("show", "demo", 0).out  # without --storage, as it was not given
    assert nas("status", "demo", "--storage", "local").code == 2


def test_training_writes_the_folder_of_this_machine(nas, url, elsewhere):
    ran = nas("train", "demo", 0, "--steps", 2, "--storage", url)
    assert ran.code == 0, ran.err
    assert Path(ran.out.strip()).parent == elsewhere / "demo" / "trained"
    assert nas("generate", "demo", 0, "--prompt", "the", "--storage", url).code == 0


def test_a_folder_of_another_study_of_that_name_is_left_alone(nas, runs, url):
    before = sorted(runs.rglob("*"))
    ran = nas("train", "demo", 0, "--steps", 2, "--storage", url)
    assert ran.code == 4
    assert "error[other-folder]" in ran.err
    assert sorted(runs.rglob("*")) == before


def test_no_study_of_that_name_names_the_nearest(nas, url, elsewhere):
    ran = nas("status", "dmo", "--storage", url)
    assert ran.code == 2
    assert "did you mean 'demo'?" in ran.err
    assert "error[no-such-study]" in nas("status", "demo", "--storage", url.rpartition("/")[0] + "/postgres").err


def test_a_server_that_refuses_or_is_not_there_is_told_without_the_password(nas, server, url, elsewhere, monkeypatch):
    monkeypatch.setenv("NAS_STORAGE", f"postgresql://nobody:{SECRET}@127.0.0.1:{server.port}/demo".replace("%", "%25"))
    for address in (os.environ["NAS_STORAGE"], os.environ["NAS_STORAGE"].replace(str(server.port), "1")):
        monkeypatch.setenv("NAS_STORAGE", address)
        ran = nas("list")
        assert ran.code == 5
        assert SECRET not in ran.err
        assert "postgresql://nobody@127.0.0.1" in ran.err
    change(url, f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {READER}")
    ran = nas("status", "demo", "--storage", url.replace("nas@", f"{READER}@"))
    assert ran.code == 5
    assert "permission denied" in ran.err


DAMAGE = {
    "attributes": "UPDATE trial_user_attributes SET value_json = '[' WHERE key = 'metrics'",
    "settings": "UPDATE study_user_attributes SET value_json = '{}' WHERE key = 'settings'",
    "a huge value": "UPDATE trial_user_attributes SET value_json = repeat('x', 300000) WHERE trial_id = 1",
    "no mark": "DELETE FROM study_system_attributes",
    "a table gone": "DROP TABLE trial_values",
    "a driver from nowhere": "UPDATE nas_drivers SET heartbeat = 'NaN'",
    "another version": "UPDATE alembic_version SET version_num = 'v9.9.9.a'",
}


@pytest.mark.parametrize("statement", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_study_stops_alone(nas, url, elsewhere, monkeypatch, statement):
    monkeypatch.setattr(server_studies, "MOST_VALUE_BYTES", 200_000)
    with closing(Database(url)) as database:
        jobs = StudyJobs.of_name(database, "demo")
        prepare(jobs, 6)
        Drivers(jobs).register()
    change(url, statement)
    ran = nas("status", "demo", "--storage", url)
    assert ran.code in (4, 5), ran.err
    assert "error[internal]" not in ran.err
    assert len(ran.err) < 2000


def test_a_list_tells_which_study_is_damaged_and_shows_the_others(nas, stored, url, elsewhere):
    change(url, DAMAGE["settings"])
    copied(stored, url, "sound")
    broken, sound, _ = map(json.loads, nas("list", "--storage", url, "--json").out.splitlines())
    assert (broken["study"], sound["study"], sound["trained"]) == ("demo", "sound", 6)
    assert "damaged" in broken["error"]


def test_a_name_that_leads_elsewhere_is_told_and_goes_nowhere(nas, url, elsewhere):
    change(url, "UPDATE studies SET study_name = '../../\x1b[2Jout'")
    ran = nas("list", "--storage", url)
    assert ran.code == 0
    assert "\x1b[2J" not in ran.out
    (line,) = [json.loads(line) for line in nas("list", "--storage", url, "--json").out.splitlines()][:-1]
    assert "name" in line["error"]
    assert nas("show", "../../out", 0, "--storage", url).code in (2, 4)


def test_studies_of_other_programs_are_not_listed(nas, url, elsewhere):
    change(url, "INSERT INTO studies (study_name) VALUES ('theirs')")
    assert "theirs" not in nas("list", "--storage", url).out
    ran = nas("status", "theirs", "--storage", url)
    assert ran.code == 4
    assert "error[not-a-study]" in ran.err


def test_status_shows_the_drivers_and_how_old_their_heartbeats_are(nas, url, elsewhere):
    with closing(Database(url)) as database:
        jobs = StudyJobs.of_name(database, "demo")
        prepare(jobs, 6)
        drivers = Drivers(jobs)
        first, _ = drivers.register("cpu"), drivers.register("cpu")
        drivers.request_stop(StopRequest.FINISH, first.id)
        change(url, f"UPDATE nas_drivers SET heartbeat = heartbeat - 5000 WHERE driver <> '{first.id}'")
    now = json.loads(nas("status", "demo", "--json", "--storage", url).out)
    assert now["running"]
    assert [(d["lives"], d["stop"], d["pid"]) for d in now["drivers"]] == [
        (True, "FINISH", os.getpid()),
        (False, "GO", os.getpid()),
    ]
    assert 0 <= now["drivers"][0]["heartbeat_age_seconds"] < 60
    assert nas("stop", "demo", "--driver", "nobody", "--storage", url).code == 2
    assert nas("stop", "demo", "--driver", first.id[:8], "--now", "--storage", url).code == 0
    assert json.loads(nas("status", "demo", "--json", "--storage", url).out)["drivers"][0]["stop"] == "NOW"
    shown = nas("status", "demo", "--storage", url).out
    for part in (first.id[:8], "told to stop", "dead", "running"):
        assert part in shown


def test_a_copy_is_whole_and_unchanged(stored, url):
    there, here = open_study("demo", url), open_study(stored / "demo")
    with closing(there.store), closing(here.store):
        assert there.store.rows() == here.store.rows()
        assert there.store.attributes() == here.store.attributes()
        assert there.store.goals() == here.store.goals()
        assert isinstance(there.store, Store)


@pytest.mark.parametrize("given", [True, False])
def test_the_overhead_benchmark_deletes_its_own_study_and_no_other(
    nas, stored, url, elsewhere, tmp_path, monkeypatch, given
):
    def run(command, env, **how):
        *_, who, trials, study = command
        assert (who == "ours") == (database_place(env["NAS_STORAGE"]) is not None)
        if who == "ours":
            copied(stored, env["NAS_STORAGE"], study)
        assert (env.get("PGPASSWORD") == SECRET) == (who == "ours")
        ran.append(study)
        times = [time.monotonic() + 0.1 * number for number in range(int(trials))]
        return subprocess.CompletedProcess(command, 0, json.dumps({"ends": times, "cpu_seconds": times}), "")

    ran: list[str] = []
    monkeypatch.setenv("PGPASSWORD", SECRET)  # the server trusts everybody here
    monkeypatch.setattr(bench_driver.subprocess, "run", run)
    if not given:
        monkeypatch.setenv("NAS_STORAGE", url)
    options = ("--storage", url) if given else ()
    ended = nas("bench", "driver", "--pairs", 2, "--trials", 20, "--json", "--out", tmp_path / "out", *options)
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert (told["database"]["kind"], told["database"]["fsync"]) == ("postgresql", False)
    assert told["ours_seconds_per_trial"]["mean"] == pytest.approx(0.1, rel=1e-3)
    assert SECRET not in (tmp_path / "out" / "driver.json").read_text() + ended.out
    assert len(set(ran)) == 4
    assert [each.name for each in server_studies.studies_in(database_place(url))] == ["demo"]


EXACT = """
name = "exact"
task = {{ corpus = "{corpus}", context = 8 }}
train = {{ steps = 6, batch = 4, rungs = [1.0], evaluation_tokens = 64 }}
objectives = [{{ metric = "val_loss" }}, {{ metric = "params" }}]
search = {{ trials = 2, sampler = "random" }}
resources = {{ device = "cpu" }}
[space]
depth = [1, 2]
hidden = [16, 24]
attention = [{{ kind = "softmax", heads = [2, 4] }}]
"""


def test_a_search_runs_over_it_is_resumed_from_elsewhere_and_deleted(
    nas, server, elsewhere, corpus, tmp_path, monkeypatch
):
    server.execute("CREATE DATABASE empty")
    url = server.url("empty").replace("+psycopg", "")
    (tmp_path / "exact.toml").write_text(EXACT.format(corpus=corpus))
    ran = nas("search", "exact.toml", "--storage", url, "--executor", "serial")
    assert ran.code == 0, ran.err
    assert not (elsewhere / "exact" / "study.db").exists()
    monkeypatch.setenv("NAS_RUNS", str(tmp_path / "other"))
    ran = nas("resume", "exact", "--trials", 3, "--storage", url, "--executor", "serial")
    assert ran.code == 0, ran.err
    assert json.loads(nas("status", "exact", "--storage", url, "--json").out)["trained"] == 3, ran.err
    assert nas("delete", "exact", "--storage", url).code == 2  # nobody is there to ask
    (tmp_path / "other" / "exact" / "notes.md").write_text("mine")
    ran = nas("delete", "exact", "--yes", "--storage", url)
    assert ran.code == 0, ran.err
    assert "notes.md" in ran.err
    assert [path.name for path in (tmp_path / "other" / "exact").iterdir()] == ["notes.md"]
    assert nas("status", "exact", "--storage", url).code == 2


@pytest.mark.parametrize("shared", [True, False])
def test_a_trial_goes_on_on_another_machine_where_the_folder_is_shared(
    nas, server, settings, tmp_path, monkeypatch, signal_at_step, shared
):
    sizes = TimedMetrics({"params": 1.0, "weights_mib": 0.5, "contended": 0.0})
    monkeypatch.setattr(measuring, "_measure", lambda *arguments: sizes)
    monkeypatch.setattr(measuring, "_count", lambda *arguments: {})
    monkeypatch.setenv("NAS_REPORTS", str(tmp_path / "reports"))
    file = tmp_path / "exact.toml"
    file.write_text(settings.to_toml().replace('metric = "decode_ms_per_token"', 'metric = "params"'))
    name = f"test_{next(_numbers)}"
    server.execute(f"CREATE DATABASE {name}")
    (tmp_path / "team").mkdir()
    told = ("--executor", "serial", "--trials", 1, "--storage", server.url(name).replace("+psycopg", ""))
    told += ("--folder", tmp_path / "team") if shared else ()
    monkeypatch.setenv("NAS_RUNS", str(tmp_path / "first"))
    signal_at_step(4, signal.SIGTERM)
    assert nas("search", file, "--no-progress", *told).code == 143
    monkeypatch.setenv("NAS_RUNS", str(tmp_path / "second"))
    ran = nas("resume", "demo", "--json", *told)
    assert ran.code == 0, ran.err
    events = [json.loads(line) for line in ran.out.splitlines()]
    restarted = [event["why"] for event in events if event["type"] == "restarted"]
    assert [event["attempt"] for event in events if event["type"] == "started"] == [2]
    if shared:
        assert restarted == []
    else:
        assert "--folder" in restarted[0]
    assert (tmp_path / "second" / "demo" / "trials").exists() != shared
