"""What `nas` did not make stays as it is, and reading writes nothing."""

import json
import os
import shutil
import sqlite3
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest

from nas import files
from nas.study import study_rows
from nas.study.creation import create
from nas.study.database import sqlite_url
from nas.study.store import Store
from nas.study.stored_study import open_study

pytestmark = pytest.mark.slow
READING = (
    ("status", "fe"),
    ("front", "fe"),
    ("show", "fe", 0),
    ("report", "fe"),
    ("train", "fe", 0),
    ("generate", "fe", 0, "--prompt", "a"),
    ("stop", "fe"),
)


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every name below the folder, with mode and content."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(folder.rglob("*"))
    }


def some_table(folder: Path) -> None:
    with sqlite3.connect(folder / "study.db") as database:
        database.execute("create table mine (a)")
        database.execute("insert into mine values (1)")
    database.close()


def an_optuna_study(folder: Path, *, trials: int = 0, studies: int = 1) -> None:
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder}/study.db")
    for i in range(studies):
        study = optuna.create_study(storage=storage, study_name=f"mine {i}")
        study.set_user_attr("settings", {"mine": 1})
        for _ in range(trials):
            study.tell(study.ask({"x": optuna.distributions.FloatDistribution(0, 1)}), 1.0)
    storage.remove_session()
    storage.engine.dispose()


FOREIGN = {
    "an Optuna study without trials": an_optuna_study,
    "an Optuna study with trials": lambda folder: an_optuna_study(folder, trials=2),
    "several Optuna studies": lambda folder: an_optuna_study(folder, studies=2),
    "Optuna's tables alone": lambda folder: an_optuna_study(folder, studies=0),
    "a table": some_table,
    "an empty file": lambda folder: (folder / "study.db").touch(),
    "a folder": lambda folder: (folder / "study.db").mkdir(),
    "a link": lambda folder: (folder / "study.db").symlink_to(folder.parent / "elsewhere.db"),
}


@pytest.fixture
def others(nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`runs/` with a folder that no study has."""
    runs = tmp_path / "runs"
    (runs / "fe").mkdir(parents=True)
    monkeypatch.setenv("NAS_RUNS", str(runs))
    return runs


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_database_that_nas_did_not_make_stays_as_it_is(nas, others, settings, tmp_path, kind):
    FOREIGN[kind](others / "fe")
    (tmp_path / "file.toml").write_text(settings.to_toml())
    before = state(others)
    for command in (("search", "file.toml", "--study", "fe", "--executor", "serial"), ("resume", "fe"), *READING):
        ran = nas(*command)
        assert ran.code == 4, (command, ran.err)
        assert str(others / "fe" / "study.db") in ran.err
        assert state(others) == before, command
    listed = nas("list", "--json")
    assert (listed.code, json.loads(listed.out.splitlines()[0])["study"]) == (0, "fe")
    assert state(others) == before


def test_somebody_elses_files_of_our_names_are_not_overwritten(nas, others, settings, tmp_path):
    """Such as the study file itself, when it lies in the folder that the study would get."""
    mine = "# my comments\n" + settings.to_toml()
    (others / "fe" / "study.toml").write_text(mine)
    ran = nas("search", others / "fe" / "study.toml", "--study", "fe", "--executor", "serial")
    assert (ran.code, (others / "fe" / "study.toml").read_text()) == (4, mine)
    assert not (others / "fe" / "study.db").exists()
    (others / "fe" / "study.toml").unlink()
    (others / "fe" / "environment.json").write_text('{"mine": 1}')
    (tmp_path / "file.toml").write_text(settings.to_toml())
    ran = nas("search", "file.toml", "--study", "fe", "--executor", "serial")
    assert (ran.code, (others / "fe" / "environment.json").read_text()) == (4, '{"mine": 1}')


LINKS = ("trials", "trials/0", "trained", "study.toml", "driver.lock", "nas.log", "environment.json", "study.db-wal")


@pytest.mark.parametrize("link", LINKS)
def test_no_link_is_followed_out_of_a_study(nas, runs, tmp_path, link):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "rung.safetensors").write_text("mine")
    (elsewhere / "thesis.txt").write_text("mine")
    place = runs / "demo" / link
    place.parent.mkdir(exist_ok=True)
    shutil.rmtree(place, ignore_errors=True)
    place.unlink(missing_ok=True)
    place.symlink_to(elsewhere if link.startswith("tr") else elsewhere / "thesis.txt")
    before = state(tmp_path)
    ran = nas("resume", "demo", "--executor", "serial")
    assert ran.code == 4
    assert str(place) in ran.err
    assert state(tmp_path) == before
    if link == "trained":
        assert nas("train", "demo", 0).code == 4
        assert state(tmp_path) == before


def test_cleaning_deletes_what_a_search_wrote_and_nothing_else(tmp_path):
    folder, target = tmp_path / "0", tmp_path / "target"
    for made in (folder, target):
        made.mkdir()
        (made / "rung.safetensors").write_text("x")
    (folder / ".rung.safetensors.12.ab.tmp").write_text("x")
    files.delete_own(folder, ["rung.safetensors"])
    assert not folder.exists()
    folder.symlink_to(target)
    files.delete_own(folder, ["rung.safetensors"])
    assert (target / "rung.safetensors").exists()
    for name in ("notes.txt", ".notes.txt.1.tmp"):
        (target / name).write_text("mine")
    (target / "linked").symlink_to(folder)
    (target / "rung.safetensors").unlink()
    (target / "rung.safetensors").symlink_to(target / "notes.txt")
    files.delete_own(target, ["rung.safetensors", "linked"])
    assert {path.name for path in target.iterdir()} == {"notes.txt", ".notes.txt.1.tmp", "linked", "rung.safetensors"}


def test_a_stop_file_of_somebody_else_is_no_request_and_stays(tmp_path):
    from nas.running.stop_control import Level, StopControl, request_stop, told_to_stop

    (tmp_path / "stop").write_text("mine")
    (tmp_path / "target").write_text("")
    (tmp_path / "stop-now").symlink_to(tmp_path / "target")
    control = StopControl(tmp_path)
    assert (control.level(), told_to_stop(tmp_path)) == (Level.GO, False)
    request_stop(tmp_path, now=True)
    request_stop(tmp_path, now=False)
    assert (tmp_path / "stop").read_text() == "mine"
    assert (tmp_path / "stop-now").is_symlink()


def test_reading_commands_write_nothing(nas, runs):
    before = state(runs)
    for command in (*READING[:4], ("list",), ("stop", "fe")):
        nas(*("demo" if word == "fe" else word for word in command))
    assert state(runs) == before


def leave_journal(folder: Path) -> None:
    """As a driver that was killed leaves its database: rows in the journal that the file itself does not hold."""
    with sqlite3.connect(folder / "study.db", isolation_level=None) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA wal_autocheckpoint=0")
        database.execute("UPDATE study_user_attributes SET value_json = '77' WHERE key = 'budget'")
        for suffix in ("-wal", "-shm"):
            shutil.copyfile(folder / f"study.db{suffix}", folder / f"kept{suffix}")
        shutil.copyfile(folder / "study.db", folder / "kept")
    database.close()
    for path in folder.glob("kept*"):
        path.replace(folder / path.name.replace("kept", "study.db"))


@contextmanager
def powerless(folder: Path):
    """Nobody may write in the folder meanwhile; run by the superuser, this process gives up that power."""
    paths = [folder, *folder.rglob("*")]
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in paths}
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        for path in paths:
            path.chmod(modes[path])


@pytest.mark.parametrize("left", ["whole", "journal", "journal without its index"])
def test_a_study_is_read_without_the_right_to_write(stored, left, monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        runs = Path(name) / "runs"
        shutil.copytree(stored, runs)
        Path(name).chmod(0o755)
        if left != "whole":
            leave_journal(runs / "demo")
        if left == "journal without its index":
            (runs / "demo" / "study.db-shm").unlink()
        (Path(name) / "tmp").mkdir()
        (Path(name) / "tmp").chmod(0o777)
        monkeypatch.setattr(tempfile, "tempdir", str(Path(name) / "tmp"))
        before = state(runs)
        with powerless(runs):
            record = open_study(runs / "demo").record_for_report()
        assert record.budget == (6 if left == "whole" else 77)
        assert len(record.trials) > 6
        after = state(runs)
        if left == "journal":  # its index is shared memory, in which readers leave their marks
            before.pop("demo/study.db-shm")
            after.pop("demo/study.db-shm")
        assert after == before


def test_rows_are_seen_as_a_driver_writes_them(runs):
    writer, reader = Store.open(sqlite_url(runs / "demo")), open_study(runs / "demo")
    writer.set_attribute("budget", 8)
    assert reader.record().budget == 8
    writer.set_attribute("budget", 9)
    assert reader.record().budget == 9
    writer.close()
    assert reader.record().budget == 9
    assert [path.name for path in (runs / "demo").glob("study.db*")] == ["study.db"]


def test_a_driver_that_is_killed_while_it_makes_a_study_leaves_none(tmp_path, settings, monkeypatch):
    class Killed(BaseException):
        pass

    def kill(*arguments):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(study_rows, "set_attribute", kill)
        with pytest.raises(Killed):
            create(tmp_path, "demo", settings.objective_list(), {"settings": {}})
    assert list(tmp_path.iterdir()) == []
    create(tmp_path, "demo", settings.objective_list(), {"settings": {}}).close()
    assert [path.name for path in tmp_path.iterdir()] == ["study.db"]


@pytest.mark.parametrize("attributes", [{}, {"data": {"sha256": "0"}, "environment": {}, "created": 1.0}])
def test_a_study_that_version_0_1_did_not_finish_making_is_made_anew(tmp_path, settings, attributes):
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/study.db")
    study = optuna.create_study(storage=storage, study_name="demo", directions=["minimize"] * 3)
    for key, value in attributes.items():
        study.set_user_attr(key, value)
    storage.remove_session()
    storage.engine.dispose()
    from nas.errors import Conflict
    from nas.study.creation import open_to_write

    with pytest.raises(Conflict, match="did not make"):
        open_to_write(tmp_path, "demo", settings.objective_list())
    files.write_json(tmp_path / "environment.json", {"versions": {"nas": "0.1.0"}})
    assert open_to_write(tmp_path, "demo", settings.objective_list()) is None
    create(tmp_path, "demo", settings.objective_list(), {"settings": {"a": 1}, "environment": {}, "data": {}}).close()
    found = open_to_write(tmp_path, "demo", settings.objective_list())
    assert found is not None
    assert found.attributes()["settings"] == {"a": 1}
    found.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["environment.json", "study.db"]


NAMES = (
    "q?mark",
    "h#ash",
    "p%41c",
    "b{race}",
    "s p",
    "new\nline",
    "[x]*",
    "ü",
    os.fsdecode(b"\xff\xfe"),
    "a&mode=ro",
    "%_",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_may_have_any_name(runs, tmp_path, name):
    (tmp_path / name).mkdir()
    (runs / "demo").rename(tmp_path / name / name)
    runs = tmp_path / name
    before = state(tmp_path)
    study = open_study(runs / name)
    assert len(study.trials()) > 6
    assert state(tmp_path) == before
    store = Store.open(sqlite_url(runs / name))
    store.set_attribute("budget", 9)
    store.close()
    assert study.record().budget == 9
    assert state(tmp_path).keys() == before.keys()
