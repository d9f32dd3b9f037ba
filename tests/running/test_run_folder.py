"""Checkpoints by step and attempt, in a folder and at a URL: continued, passed, altered by strangers, or elsewhere."""

import json
import shutil
from pathlib import Path

import pytest

from nas import remote_files
from nas.body import Finished, Measured
from nas.body import Reached as PublicReached
from nas.results import Rung
from nas.running import own_body
from nas.running.events import Blocked, Completed, Failed, Interrupted, Job, Reached, Restarted
from nas.running.own_trial import OwnTrial
from nas.running.trial import TrialRun
from nas.settings import study_file
from nas.trial_files import RunFolder
from tests.own_study import METRICS
from tests.running.tables import settings

pytestmark = pytest.mark.slow
MEASURED = {"params": 100.0}
HALF = "rung-3.a1.safetensors"


@pytest.fixture
def file(tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the quick brown fox jumps over the lazy dog. " * 60, encoding="utf-8")
    return settings(
        f"task.corpus={json.dumps(str(corpus))}",
        "space.hidden=[16]",
        "space.depth=[1]",
        'space.attention=[{kind="softmax",heads=[1]}]',
        "baselines=[]",
        "task.context=16",
        "train.steps=6",
        "train.batch=4",
        "train.rungs=[0.5,1.0]",
        "train.evaluation_tokens=256",
        "measure.prompt=8",
    )


@pytest.fixture(params=["path", "url"])
def folder(request, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_files, "PAUSES", ())
    root = tmp_path / "shared"
    return RunFolder(str(root) if request.param == "path" else root.as_uri())


@pytest.fixture
def attempt(file, folder, tmp_path):
    """Makes an attempt of trial 0; `stop_at` is how many steps it is let to take."""

    def make(number=1, rungs=(), stop_at=100, seed=0, before=""):
        asked = iter(range(10_000))
        job = Job(0, number, seed, ARCHITECTURE, metrics=MEASURED, rungs=rungs, before=before)
        return TrialRun(
            job,
            file=file,
            folder=tmp_path / "study",
            device="cpu",
            should_stop=lambda: next(asked) >= stop_at,
            run_folder=folder,
        )

    return make


ARCHITECTURE = {"family": "decoder", "hidden": 16, "blocks": [{"attention": {"kind": "softmax", "heads": 1}}]}


def events(run, count=20):
    """Steps until an event that ends the trial, without the first, Measured."""
    found = [run.step()]
    while not isinstance(found[-1], Completed | Failed | Interrupted | Blocked) and len(found) < count:
        found.append(run.step())
    return found[1:]


def names(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "shared" / "trials" / "0").iterdir())


def test_an_attempt_goes_on_from_the_last_one_and_leaves_one_checkpoint(attempt, tmp_path):
    whole = events(attempt())[-1]
    assert [name for name in names(tmp_path) if name.startswith("rung")] == ["rung-6.a1.safetensors"]
    shutil.rmtree(tmp_path / "shared")
    first = attempt(stop_at=8)
    assert events(first)[0].checkpoint == HALF
    stopped = names(tmp_path)
    assert len(stopped) == 1
    again = events(attempt(2))
    assert [type(event) for event in again] == [Reached, Completed]
    assert again[-1].rung.metrics["val_loss"] == whole.rung.metrics["val_loss"]
    assert {"model.safetensors", "attention_maps.json", "rung-6.a2.safetensors"} <= set(names(tmp_path))
    assert not set(stopped) & set(names(tmp_path))


def test_a_worker_that_wakes_up_overwrites_and_deletes_nothing_of_a_later_attempt(attempt, tmp_path):
    frozen = attempt()
    frozen.step()
    assert frozen.step().checkpoint == HALF
    later = attempt(2)
    later.step()
    assert [later.step().rung.step, later.step().rung.step] == [3, 6]
    assert "rung-6.a2.safetensors" in names(tmp_path)
    content = (tmp_path / "shared" / "trials" / "0" / "rung-6.a2.safetensors").read_bytes()
    frozen.step()
    assert (tmp_path / "shared" / "trials" / "0" / "rung-6.a2.safetensors").read_bytes() == content


def test_the_checkpoint_of_version_0_1_is_continued(attempt, tmp_path):
    events(attempt(stop_at=8))
    place = tmp_path / "shared" / "trials" / "0"
    (found,) = place.iterdir()
    found.rename(place / "rung.safetensors")
    assert [type(event) for event in events(attempt(2))] == [Reached, Completed]
    assert "rung.safetensors" not in names(tmp_path)


@pytest.mark.parametrize("harm", ["cut", "large", "link", "other training"])
def test_a_checkpoint_that_strangers_altered_is_told_and_training_begins_anew(attempt, tmp_path, harm):
    events(attempt(stop_at=8))
    (path,) = (tmp_path / "shared" / "trials" / "0").iterdir()
    match harm:
        case "cut":
            path.write_bytes(path.read_bytes()[:-9])
        case "large":
            with path.open("r+b") as opened:
                opened.truncate(2**40)
        case "link":
            path.rename(tmp_path / "theirs")
            path.symlink_to(tmp_path / "theirs")
    told, *rest = events(attempt(2, rungs=(Rung(3, 1.0, {}),), seed=int(harm == "other training")))
    assert isinstance(told, Restarted)
    assert "shared/trials/0" in told.why
    assert "nas-trial-" not in told.why
    assert [type(event) for event in rest] == [Reached, Completed]


def test_a_sound_checkpoint_is_continued_where_a_further_one_is_damaged(attempt, tmp_path):
    events(attempt(stop_at=8))
    (path,) = (tmp_path / "shared" / "trials" / "0").iterdir()
    (path.parent / "rung-5.a9.safetensors").write_bytes(b"nothing")
    assert [type(event) for event in events(attempt(2))] == [Reached, Completed]


def test_a_checkpoint_on_another_machine_is_told(attempt):
    told = events(attempt(2, rungs=(Rung(3, 1.0, {}),), before="node7"))[0]
    assert isinstance(told, Restarted)
    assert "on node7" in told.why
    assert "--folder" in told.why


def test_a_folder_that_vanishes_stops_the_search(attempt, folder, tmp_path):
    marked = RunFolder(folder.place, "id")
    marked.leave_mark("study")
    run = attempt()
    run.run_folder = marked
    run.step()
    assert isinstance(run.step(), Reached)
    shutil.rmtree(tmp_path / "shared")
    (tmp_path / "shared").write_text("")
    (event,) = events(run)[:1] or [run.step()]
    assert isinstance(event, Blocked)


def test_a_body_of_ones_own_finds_its_files_again_elsewhere(folder, tmp_path):
    text = 'name = "own"\n[space.parameters]\nx = { low = 0.0, high = 1.0 }\n[train]\nsteps = 8\nrungs = [0.5, 1.0]\n'
    file = study_file.parse(text + METRICS)

    def body(job):
        found = sorted(path.name for path in job.folder.iterdir())
        (job.folder / "parts").mkdir(exist_ok=True)
        (job.folder / "parts" / f"{job.attempt}.txt").write_text("x")
        yield Measured({"size": 1.0})
        for step in job.rungs:
            (job.folder / f"at-{step}").write_text(str(found))
            yield PublicReached(step, {"error": 1.0, "accuracy": 0.5})
        yield Finished({"error": 0.5, "accuracy": 0.5})

    def make(number, rungs=()):
        job = Job(0, number, 0, {}, parameters={"x": 0.5}, rungs=rungs)
        own = own_body.chosen(file, body)[1]
        return OwnTrial(job, body=own, file=file, folder=tmp_path, device="cpu", run_folder=folder)

    first = make(1)
    first.step()
    assert isinstance(first.step(), Reached)
    del first
    place = tmp_path / "shared" / "trials" / "0"
    assert {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()} == {"at-4", "parts/1.txt"}
    assert isinstance(events(make(2))[-1], Completed)
    assert (place / "at-8").read_text() == "['at-4', 'parts']"
    assert (place / "parts" / "2.txt").exists()
    shutil.rmtree(tmp_path / "shared")
    assert isinstance(events(make(3, rungs=(Rung(4, 1.0, {}),)))[0], Restarted)
