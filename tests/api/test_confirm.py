"""`Study.confirm`: trainings with new seeds, goes on where it stopped, and refuses what it cannot confirm."""

import subprocess
import sys
from contextlib import closing
from dataclasses import asdict

import pytest

import nas
from nas import pareto
from nas.confirmation import hardware_name
from nas.errors import Conflict, NothingFeasible, OutOfReach, UsageError
from nas.running import confirmation_plan
from nas.running.confirmation_plan import Plan
from nas.study.drivers import Drivers
from nas.study.leases import join
from nas.study.store import Store, sqlite_url
from nas.study.stored_confirmations import confirmed as stored_in
from nas.training.trainer import Diverged, Trainer

pytestmark = pytest.mark.slow
FREE = ("train_seconds", "tokens_per_second")
OPTIONS = {"executor": "serial", "seeds": 2, "most": 3}


def exact(metrics):
    return {name: value for name, value in metrics.items() if name not in FREE}


def rows(study):
    """What has to be equal of each confirmation: everything that no clock measures."""
    return {
        number: [
            (r.seed, r.steps, r.reason, exact(r.metrics), dict(r.test), [(g.step, exact(g.metrics)) for g in r.rungs])
            for r in found.retrainings
        ]
        for number, found in study.record().confirmed.items()
    }


@pytest.fixture
def twins(study):
    """The study with both of its trials on the front, whatever they have learned."""
    assert study.record().trained_count() == 2
    return study


def undisturbed(twins):
    """The rows of an undisturbed confirmation, of which the study then knows nothing."""
    folder = twins.folder
    database = (folder / "study.db").read_bytes()
    twins.confirm(**OPTIONS)
    expected = rows(twins)
    twins.close()
    for name in ("study.db-wal", "study.db-shm"):
        (folder / name).unlink(missing_ok=True)
    (folder / "study.db").write_bytes(database)
    return expected


def test_the_front_is_trained_with_new_seeds_and_what_remains_is_tested(twins):
    events = []
    before = twins.record()
    found = twins.confirm(**OPTIONS, observer=events.append)
    after = twins.record()
    assert {trial.number for trial in pareto.front_of(before)} <= set(found)
    assert after.trials == before.trials
    assert (after.budget, after.worked) == (before.budget, before.worked)
    own = {trial.number: trial.metrics["val_loss"] for trial in before.trials}
    seeds = [{r.seed for r in each.retrainings} for each in found.values()]
    assert all(len(each) in (2, 3) for each in seeds)
    assert len(set.intersection(*seeds)) >= 2  # members are paired over seeds
    assert all(own[n] not in [r.metrics["val_loss"] for r in each.retrainings] for n, each in found.items())
    tested = {n for n, each in found.items() if any(r.test for r in each.retrainings)}
    assert tested
    assert all(r.test["test_loss"] > 0 for n in tested for r in found[n].retrainings)
    assert not (twins.folder / "retrained").exists() or not any((twins.folder / "retrained").iterdir())
    kinds = [event["type"] for event in events]
    assert kinds[0] == "waiting"
    assert "confirming" in kinds
    first = next(event for event in events if event["type"] == "confirmation")
    assert (first["what"], first["does"]) == ("begun", "training")
    again = []
    assert twins.confirm(**OPTIONS, observer=again.append) == found
    assert "confirmation" not in [event["type"] for event in again]


def test_stopped_at_any_event_it_goes_on_to_the_same_rows(twins):
    expected, left, told = undisturbed(twins), [1, 4, 7, 9, 11, 13], [0]

    def fragile(event):
        told[0] += event["type"] == "confirmation"
        if left and told[0] == left[0]:
            left.pop(0)
            raise RuntimeError("stops here")

    study = nas.open_study("exact")
    while left:
        with pytest.raises(RuntimeError, match="stops here"):
            study.confirm(**OPTIONS, observer=fragile)
    study.confirm(**OPTIONS)
    assert rows(study) == expected


KILLED = """
import os, signal, sys
import nas
count = 0

def kill(event):
    global count
    count += event["type"] == "confirmation"
    if count == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)

nas.open_study("exact").confirm(executor="serial", seeds=2, most=3, observer=kill)
"""


def killed(at):
    process = subprocess.run([sys.executable, "-c", KILLED, str(at)], check=False, timeout=120, capture_output=True)
    assert process.returncode == -9, process.stderr.decode()


def confirmed_in_one(twins, kills):
    """The rows of an undisturbed confirmation, and those of one that was killed at these events."""
    expected = undisturbed(twins)
    for at in kills:
        killed(at)
    nas.open_study("exact").confirm(**OPTIONS)
    return expected, rows(nas.open_study("exact"))


def test_killed_twice_it_goes_on_to_the_same_rows(twins):
    expected, found = confirmed_in_one(twins, (2, 6))
    assert found == expected


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_killed_ten_times_it_goes_on_to_the_same_rows(twins):
    expected, found = confirmed_in_one(twins, (1, 2, 3, 2, 4, 1, 3, 2, 2, 1))
    assert found == expected


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_ray_confirms_to_the_rows_of_the_serial_executor(twins):
    expected, study = undisturbed(twins), nas.open_study("exact")
    study.confirm(**{**OPTIONS, "executor": "ray"}, cpus=2)
    assert rows(study) == expected


def test_a_member_that_diverges_with_a_new_seed_is_a_result_and_leaves_the_front(twins, monkeypatch):
    first = pareto.front_of(twins.record())[0]
    run = Trainer.run_to_next_rung

    def diverges(trainer):
        if trainer.architecture.id == first.architecture_id:
            raise Diverged("planted")
        return run(trainer)

    monkeypatch.setattr(Trainer, "run_to_next_rung", diverges)
    found = twins.confirm(**OPTIONS)
    assert [r.reason for r in found[first.number].retrainings] == ["nan", "nan"]
    assert not any(r.test for r in found[first.number].retrainings)


def test_where_the_checkpoint_of_a_training_is_gone_its_test_trains_again_and_says_so(twins):
    events = []

    def losing(event):
        events.append(event)
        if event["type"] == "confirmation" and (event["what"], event["does"]) == ("begun", "test"):
            for path in (twins.folder / "retrained").glob("*/*.safetensors"):
                path.unlink()

    found = twins.confirm(executor="serial", seeds=1, most=1, observer=losing)
    restarted = [event["why"] for event in events if event["type"] == "restarted"]
    assert restarted
    assert all("checkpoint is gone" in why for why in restarted)
    assert any(r.test for each in found.values() for r in each.retrainings)


def test_longer_trainings_stand_beside_the_others(twins):
    found = twins.confirm(executor="serial", seeds=1, most=1, steps=6)
    assert {r.steps for each in found.values() for r in each.retrainings} == {6}
    both = twins.confirm(executor="serial", seeds=1, most=1)
    assert {r.steps for each in both.values() for r in each.retrainings} == {4, 6}
    assert [r.step for r in both[next(iter(both))].of_steps(6)[0].rungs] == [3, 6]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"seeds": 5, "most": 3}, UsageError, "seeds must be at most 3"),
        ({"seeds": 0}, UsageError, "seeds must be from 1 to 100"),
        ({"steps": 0}, UsageError, "steps must be from 1"),
        ({"budget": "soon"}, UsageError, "expected"),
        ({"budget": -1}, UsageError, "a budget must be above 0"),
        ({"where": ["params<=1"]}, NothingFeasible, "within params <= 1"),
        ({"where": ["speed<=1"]}, UsageError, "unknown metric 'speed'"),
        ({"body": "os:getcwd"}, UsageError, "built-in training"),
    ],
)
def test_wrong_options_are_refused(study, options, error, text):
    with pytest.raises(error, match=text):
        study.confirm(**{"executor": "serial", **options})
    assert study.record().confirmed == {}


def test_a_budget_that_is_too_small_for_the_first_seeds_is_refused_with_the_estimate(study):
    with pytest.raises(UsageError, match=r"the first round takes about .* more than the budget") as refused:
        study.confirm(executor="serial", budget=0.001)
    assert (refused.value.code, refused.value.where) == ("small-budget", "budget")
    assert "trainings left" in refused.value.detail


def test_a_study_that_is_searched_is_refused_and_another_confirmation_is_not(study):
    store = Store.open(sqlite_url(study.folder))
    searching = join(store.database, store.name, 2)
    with pytest.raises(Conflict, match="is being searched, so its front may change"):
        study.confirm(**OPTIONS)
    searching.leave()
    other = Drivers(searching.jobs).register(confirms=True)
    assert study.confirm(executor="serial", seeds=1, most=1)
    assert [driver["driver"] for driver in study.status()["drivers"]] == [other.id]
    store.close()


def test_other_data_is_refused(study):
    with closing(Store.open(sqlite_url(study.folder))) as store:
        store.set_attribute("data", {**store.attributes()["data"], "sha256": "0" * 64})
    with pytest.raises(Conflict, match="the data of study 'exact' has changed"):
        study.confirm(**OPTIONS)


def test_times_on_other_hardware_are_refused_unless_they_are_measured_here_under_its_name(study, monkeypatch):
    monkeypatch.setattr(Plan, "timed", True)
    monkeypatch.setattr(confirmation_plan, "BLOCKS", 2)
    monkeypatch.setattr(confirmation_plan, "APART_SECONDS", 0.2)
    with closing(Store.open(sqlite_url(study.folder))) as store:
        environment = store.attributes()["environment"]
        store.set_attribute("environment", {**environment, "cpu": "Another 9000"})
    with pytest.raises(Conflict, match="was measured on other hardware") as refused:
        study.confirm(executor="serial", seeds=1, most=1)
    assert "stored Another 9000" in refused.value.detail
    assert refused.value.help.startswith("--here")
    found = study.confirm(executor="serial", seeds=1, most=1, here=True)
    here = hardware_name(environment)
    blocks = [each.on_hardware(here) for each in found.values()]
    assert [len(each) for each in blocks] == [2] * len(found)
    assert all(later.began - first.began >= 0.2 for first, later in blocks)


def test_a_folder_of_trainings_that_cannot_be_written_ends_it_with_the_place(twins):
    (twins.folder / "retrained").write_text("in the way")
    with pytest.raises((OutOfReach, Conflict)) as raised:
        twins.confirm(**OPTIONS)
    assert "retrained" in raised.value.render()
    assert not stored_in(Store.open(sqlite_url(twins.folder))).ended


def test_the_record_of_a_confirmation_is_plain_data(twins):
    found = twins.confirm(executor="serial", seeds=1, most=1)
    assert all(asdict(each)["trial"] == number for number, each in found.items())
