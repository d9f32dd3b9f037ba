"""The files of trials: one contract for a folder of this machine and for a URL, and what strangers may have left."""

import os
import pickle

import pytest

from nas import files, remote_files
from nas.errors import Conflict, OutOfReach, UsageError
from nas.remote_files import RemoteFiles, checked_url
from nas.trial_files import MARK, LocalFiles, RunFolder, attempt_of, checkpoint_name, checkpoints, written_as

MOST = 1_000


@pytest.fixture(params=["path", "url"])
def folder(request, tmp_path, monkeypatch):
    """The place of a study, as a path and as a URL; both are on this disk."""
    monkeypatch.setattr(remote_files, "PAUSES", (0.0,))
    root = tmp_path / "shared" / "study"
    return RunFolder(str(root) if request.param == "path" else root.as_uri())


def test_what_is_published_is_read_by_others(folder, tmp_path):
    ours = folder.trial(3)
    assert isinstance(ours, RemoteFiles if folder.remote else LocalFiles)
    assert ours.names() == []
    files.write_text(ours.path / "a.txt", "first")
    ours.publish("a.txt")
    files.write_text(ours.path / "a.txt", "second")
    ours.publish("a.txt")
    theirs = pickle.loads(pickle.dumps(folder)).trial(3)
    assert theirs.names() == ["a.txt"]
    assert theirs.fetch("a.txt", MOST).read_text() == "second"
    assert (tmp_path / "shared" / "study" / "trials" / "3" / "a.txt").read_text() == "second"
    assert folder.numbers() == [3]


def test_what_is_not_there_is_told_from_what_is_too_large(folder):
    trial = folder.trial(0)
    with pytest.raises(FileNotFoundError):
        trial.fetch("none", MOST)
    files.write_text(trial.path / "large", "x" * (MOST + 1))
    trial.publish("large")
    with pytest.raises(ValueError, match="1,000 bytes"):
        folder.trial(0).fetch("large", MOST)
    assert folder.trial(0).fetch("large", MOST + 1).stat().st_size == MOST + 1


def test_own_names_are_deleted_with_their_unfinished_copies_and_others_stay(folder, tmp_path):
    place = tmp_path / "shared" / "study" / "trials" / "7"
    place.mkdir(parents=True)
    for name in ("own", ".own.1.ab.tmp", "theirs", ".theirs.1.ab.tmp"):
        (place / name).write_text("x")
    folder.trial(7).delete(["own", "absent"])
    assert sorted(path.name for path in place.iterdir()) == [".theirs.1.ab.tmp", "theirs"]
    folder.trial(7).delete_all()
    folder.trial(7).delete_all()
    assert folder.numbers() == []


def test_links_are_never_followed(folder, tmp_path):
    """Whoever may write into a shared folder could let it lead to the files of others."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("mine")
    trials = tmp_path / "shared" / "study" / "trials"
    (trials / "0").mkdir(parents=True)
    (trials / "0" / "key").symlink_to(secret / "key")
    with pytest.raises(ValueError, match="link"):
        folder.trial(0).fetch("key", MOST)
    ours = folder.trial(0)
    files.write_text(ours.path / "key", "ours")
    ours.publish("key")
    (trials / "1").symlink_to(secret)
    for use in (lambda files: files.names(), lambda files: files.delete(["key"]), lambda files: files.delete_all()):
        with pytest.raises(Conflict) as caught:
            use(folder.trial(1))
        assert caught.value.code == "linked"
    assert (secret / "key").read_text() == "mine"


def test_a_mark_tells_the_study_and_a_folder_that_is_gone(folder, tmp_path, monkeypatch):
    folder = RunFolder(folder.place, "0123")
    with pytest.raises(OutOfReach, match="cannot be reached"):
        folder.require()
    folder.leave_mark("study")
    folder.require()
    assert folder.mark() == {"study": "study", "id": "0123"}
    with pytest.raises(OutOfReach) as caught:
        RunFolder(folder.place, "other").require()
    assert "another study's" in caught.value.detail
    for damage in ("[" * 100, '{"id": 3}', "x" * 5_000):
        (tmp_path / "shared" / "study" / MARK).write_text(damage)
        with pytest.raises(OutOfReach):
            folder.require()


def test_a_place_that_cannot_be_written_is_out_of_reach(folder, tmp_path):
    trial = folder.trial(0)
    (tmp_path / "shared").write_text("in the way")

    def write():
        files.write_text(trial.path / "a", "x")
        trial.publish("a")

    with pytest.raises(OutOfReach):
        write()


def test_nothing_of_a_scratch_folder_is_left(tmp_path):
    trial = RunFolder(tmp_path.as_uri()).trial(0)
    files.write_text(trial.path / "a", "x")
    scratch = trial.path
    del trial
    assert not scratch.exists()


def test_checkpoints_are_ordered_by_step_then_attempt():
    names = ["rung-5.a2.safetensors", "rung-10.a1.safetensors", "rung-5.a10.safetensors", "rung.safetensors"]
    assert checkpoints([*names, "rung-5.a1", "model.safetensors", "rung-5.a2.safetensors.tmp"]) == [
        "rung-10.a1.safetensors",
        "rung-5.a10.safetensors",
        "rung-5.a2.safetensors",
        "rung.safetensors",
    ]
    assert [attempt_of(checkpoint_name(5, 3)), attempt_of("rung.safetensors")] == [3, 0]
    assert written_as(".rung-5.a2.safetensors.812.0a1b.tmp") == "rung-5.a2.safetensors"
    assert written_as("rung-5.a2.safetensors") == "rung-5.a2.safetensors"


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA:hush@bucket/x",
        "s3://hush@bucket/x",
        "s3://bucket/x?secret_key=hush",
        "s3://bucket/x?region=eu&access_key=hush",
        "abfs://box:hush@account.dfs.core.windows.net/x",
        "gs://bucket/x?access_token=hush",
        "hdfs://user:hush@host:8020/x",
        "s3://bucket/x#hush",
        "https://host/hush",
        "s3:///hush",
        "s3://[hush",
        "file://hush/x",
        "s3://bucket/hush\x1b[2J",
    ],
)
def test_an_address_with_a_secret_or_a_fault_is_refused_and_not_shown(url):
    with pytest.raises(UsageError) as caught:
        checked_url(url, "--folder")
    assert caught.value.where == "--folder"
    assert "hush" not in caught.value.render().replace("one of hush", "")


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/a/b?region=eu-west-1&endpoint_override=host:9000&scheme=http",
        "gs://anonymous@bucket/a",
        "abfss://box@account.dfs.core.windows.net/a",
        "hdfs://host:8020/a?user=me",
        "file:///a",
    ],
)
def test_addresses_that_pyarrow_knows_pass(url):
    assert checked_url(url, "--folder") == url
    scheme, _, rest = url.partition("?")
    assert checked_url(f"{scheme}/" + (f"?{rest}" if rest else ""), "--folder") == url


def test_no_file_is_written_in_place(tmp_path, monkeypatch):
    """A reader finds the old file or the new one: an upload that breaks leaves the old one, and nothing beside it."""
    monkeypatch.setattr(remote_files, "PAUSES", ())
    place = RunFolder(tmp_path.as_uri())
    trial = place.trial(0)
    files.write_text(trial.path / "a", "old")
    trial.publish("a")
    files.write_text(trial.path / "a", "new")

    def breaks(source, out, size):
        out.write(b"ne")
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(remote_files.shutil, "copyfileobj", breaks)
    with pytest.raises(OutOfReach):
        trial.publish("a")
    assert [path.name for path in (tmp_path / "trials" / "0").iterdir()] == ["a"]
    assert place.trial(0).fetch("a", MOST).read_text() == "old"
