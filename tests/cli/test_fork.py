"""`nas fork` and `nas delete`, on studies in folders; over PostgreSQL they are in test_storage.py."""

import json
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from nas.api import forking
from nas.measure import hardware
from nas.measurement import TimedMetrics
from nas.running import measuring
from nas.running.proposer import seed_of
from nas.settings import study_file
from nas.study.store import Store, sqlite_url
from nas.study.stored_study import first_number, open_study

pytestmark = pytest.mark.slow
TINY_LM = Path(__file__).parents[2] / "search_spaces" / "tiny_lm.toml"


@pytest.fixture
def changed(settings, tmp_path):
    """Writes the study's file with such changes, and returns its path."""

    def write(*overrides: str):
        path = tmp_path / "changed.toml"
        path.write_text(study_file.parse(settings.to_toml(), overrides).to_toml())
        return path

    return write


def trained(study) -> list:
    return [trial for trial in study.trials() if trial.trained]


def test_a_copy_is_whole_with_the_files_of_its_trials(nas, runs):
    model = runs / "demo" / "trials" / "0"
    model.mkdir(parents=True)
    (model / "metrics.json").write_text("{}")
    (model / "link").symlink_to("/etc/hostname")
    ran = nas("fork", "demo", "twin")
    assert ran.code == 0, ran.err
    one, two = open_study("demo"), open_study("twin")
    with closing(one.store), closing(two.store):
        assert one.store.rows() == two.store.rows()
        settings = one.store.attributes().pop("settings") | {"name": "twin"}
        assert two.store.attributes() == one.store.attributes() | {"settings": settings}
    assert [path.name for path in (runs / "twin" / "trials" / "0").iterdir()] == ["metrics.json"]
    assert sorted(path.name for path in runs.iterdir()) == ["demo", "twin"]
    assert nas("fork", "demo", "twin").code == 4  # it exists
    assert nas("fork", "demo", "../out").code == 2


def test_a_study_that_is_searched_is_neither_copied_nor_deleted(nas, runs, driver, monkeypatch):
    monkeypatch.setenv("NAS_RUNS", str(driver.lock_file).removesuffix("/demo/driver.lock"))
    with driver:
        for arguments in (("fork", "demo", "twin"), ("delete", "demo", "--yes")):
            ran = nas(*arguments)
            assert ran.code == 4
            assert "is being searched" in ran.err


def test_every_trial_that_a_wider_space_holds_is_taken(nas, runs, changed):
    old = open_study("demo")
    file = changed("space.hidden=[16, 24, 32]", "search.trials=9")
    refused = nas("search", file, "--study", "demo", "--executor", "serial")
    assert refused.code == 4
    assert "nas fork demo demo_2 FILE" in refused.err
    ran = nas("fork", "demo", "wider", file, "--json")
    assert ran.code == 0, ran.err
    told, new = json.loads(ran.out), open_study("wider")
    assert (told["taken"], told["measured"]) == (len(trained(old)), 0)
    assert sum(told["left"].values()) == len(old.trials()) - told["taken"]
    assert [t.metrics for t in trained(new)] == [t.metrics for t in trained(old)]
    assert [t.rungs for t in trained(new)] == [t.rungs for t in trained(old)]
    assert new.record().budget == 9
    with closing(new.store), closing(old.store):
        firsts = [first_number(row) for row in new.store.rows()]
        assert firsts == [t.number for t in trained(old)]
        assert all(32 in row.distributions["hidden"].choices for row in new.store.rows() if row.params)
    assert seed_of(0, firsts[-1]) != seed_of(0, len(firsts) - 1)


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("quick_search")
def test_fifty_trained_trials_of_tiny_lm_go_on_in_a_wider_space(nas, tmp_path, monkeypatch):
    """None of them is trained again, and the sampler predicts from all of them for its first proposal already."""
    monkeypatch.setenv("NAS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("NAS_REPORTS", str(tmp_path / "reports"))
    short = ["train.steps=12", "train.rungs=[0.5,1.0]", "train.evaluation_tokens=4096", "search.skip=false"]
    file, how = tmp_path / "file.toml", ("--executor", "serial", "--no-progress")
    file.write_text(study_file.load(TINY_LM, [*short, "search.trials=50"]).to_toml())
    assert nas("search", file, *how).code == 0
    file.write_text(study_file.load(file, ["space.hidden=[32,48,64,96,128]", "search.trials=60"]).to_toml())
    told = json.loads(nas("fork", "tiny_lm", "wider", file, "--json").out)
    assert (told["taken"], told["measured"], told["left"]) == (50, 0, {})

    events = [json.loads(line) for line in nas("resume", "wider", "--json", *how).out.splitlines()]
    assert [event["trial"] for event in events if event["type"] == "started"] == [*range(50, 60)]
    old, new = open_study("tiny_lm"), open_study("wider")
    with closing(old.store), closing(new.store):
        first, trials = old.trials(), new.trials()
        rows = new.store.rows()
    assert [(t.architecture_id, t.state, t.rungs) for t in trials[:50]] == [
        (t.architecture_id, t.state, t.rungs) for t in first
    ]
    assert all(128 in row.distributions["hidden"].choices for row in rows if row.params)
    assert len({trial.architecture_id for trial in trials}) == len(trials) == 60
    objectives = {"val_loss", "decode_ms_per_token", "peak_inference_mib"}
    assert all(trial.predicted.keys() == objectives for trial in trials[50:])
    assert first[1].predicted == {}  # a study that begins knows nothing


def test_a_narrower_space_and_other_limits_tell_what_is_left(nas, runs, changed):
    file = changed("space.hidden=[16]", "constraints=[{ metric = 'params', max = 5000 }]")
    told = json.loads(nas("fork", "demo", "narrow", file, "--json").out)
    assert told["left"]["not in the new space"] > 0
    new = open_study("narrow")
    assert all((t.violations["params"] > 0) == (t.metrics["params"] > 5000) for t in new.trials())
    new.store.close()


def test_other_objectives_are_judged_from_what_is_stored(nas, runs, changed):
    known = changed("objectives=[{ metric = 'val_accuracy' }, { metric = 'params' }]")
    assert nas("fork", "demo", "known", known).code == 0
    unknown = changed("objectives=[{ metric = 'val_loss' }, { metric = 'prefill_ms' }]")
    ran = nas("fork", "demo", "unknown", unknown)
    assert ran.code == 4
    assert "without prefill_ms" in ran.err
    assert not (runs / "unknown").exists()


@pytest.mark.parametrize("override", ["train.steps=7", "search.seed=1", "task.context=9"])
def test_trials_that_would_be_trained_otherwise_are_not_taken(nas, runs, changed, override):
    ran = nas("fork", "demo", "other", changed(override))
    assert ran.code == 4
    assert override.partition("=")[0] in ran.err


@pytest.mark.parametrize("how", ["hardware", "workload"])
def test_times_of_other_hardware_or_another_workload_are_measured_anew(nas, runs, changed, monkeypatch, how):
    if how == "hardware":
        store = Store.open(sqlite_url(runs / "demo"))
        store.set_attribute("environment", store.attributes()["environment"] | {"cpu": "another"})
        store.close()
    found = {"decode_ms_per_token": 7.0, "contended": 0.0}
    monkeypatch.setattr(measuring, "_measure", lambda *arguments: TimedMetrics(found))
    monkeypatch.setattr(measuring, "_count", lambda *arguments: {"params": 50.0, "weights_mib": 1.0})
    file = changed("measure.prompt=3") if how == "workload" else changed()
    ran = nas("fork", "demo", "anew", file, "--json")
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    assert told["measured"] == told["taken"] > 0
    new = open_study("anew")
    assert {t.metrics["decode_ms_per_token"] for t in new.trials()} == {7.0}
    assert all(t.values(new.file.objective_list())[1] == 7.0 for t in new.trials() if t.state == "COMPLETE")
    assert hardware.hardware_id(new.record().environment) == hardware.hardware_id(forking.environment())
    new.store.close()


def test_the_sampler_and_the_endings_may_change_and_stay_changed(nas, runs, changed):
    file = changed("search.sampler=tpe", "search.stopping=false", "search.skip=false", "search.trials=6")
    assert nas("search", file, "--study", "demo", "--executor", "serial").code == 0
    found = open_study("demo")
    assert (found.file.search.sampler, found.file.search.stopping, found.file.search.skip) == ("tpe", False, False)
    found.store.close()


def test_deleting_leaves_what_others_wrote(nas, runs):
    folder = runs / "demo" / "trials" / "0"
    folder.mkdir(parents=True)
    for name in ("rung.safetensors", "model.safetensors", "metrics.json"):
        (folder / name).touch()
    retrained = runs / "demo" / "retrained" / "0-s7-6"
    retrained.mkdir(parents=True)
    (retrained / "rung-3.a1.safetensors").touch()
    assert nas("delete", "demo").code == 2  # nobody is there to ask
    assert nas("delete", "demo", "--yes").code == 0
    assert not (runs / "demo").exists()


def test_what_nas_did_not_write_stays(nas, runs):
    notes = runs / "demo" / "trials" / "0" / "notes.md"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    ran = nas("delete", "demo", "--yes")
    assert ran.code == 0, ran.err
    assert "did not write: trials" in " ".join(ran.err.split())
    assert [path for path in runs.rglob("*") if path.is_file()] == [notes]
    assert nas("status", "demo").code == 2
    shutil.rmtree(runs / "demo")
