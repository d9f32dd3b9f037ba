"""Where studies are stored: the door that every address passes, and what it keeps to itself."""

import pickle
import sys
from pathlib import Path

import pytest

from nas.errors import InvalidStudyFile, UsageError
from nas.settings import study_file
from nas.settings.user_config import config_file
from nas.study.database_place import DatabasePlace, database_place, masked
from nas.study.transactions import Database

SECRET = "h}{u%nter/2"  # with the characters that break addresses
ENCODED = "h%7D%7Bu%25nter%2F2"
URL = f"postgresql://ann:{ENCODED}@db.example.org:5433/studies?sslmode=require"
SHOWN = "postgresql://ann@db.example.org:5433/studies?sslmode=require"


@pytest.fixture(autouse=True)
def config(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("NAS_STORAGE", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    path = config_file()
    path.parent.mkdir()
    return path


def write(path: Path, text: str, mode: int = 0o600) -> None:
    path.write_text(text)
    path.chmod(mode)


def refused(storage: str | None = None, source: str = "storage") -> str:
    """The error's text, which shows no password."""
    with pytest.raises(UsageError) as caught:
        database_place(storage, source)
    told = caught.value.render()
    assert not any(secret in told for secret in ("hunter", SECRET, ENCODED, "nter"))
    return told


def test_the_option_comes_first_then_the_variable_then_the_configuration(config, monkeypatch):
    assert database_place() is None
    write(config, '[storage]\nurl = "postgresql://config/studies"\n')
    assert (str(database_place()), database_place().chosen) == ("postgresql://config/studies", False)
    monkeypatch.setenv("NAS_STORAGE", "postgresql://variable/studies")
    assert (str(database_place()), database_place().chosen) == ("postgresql://variable/studies", False)
    asked = database_place("postgres://option/studies")
    assert (str(asked), asked.chosen) == ("postgresql://option/studies", True)
    assert database_place("local") is None
    monkeypatch.setenv("NAS_STORAGE", "local")
    assert database_place() is None
    monkeypatch.setenv("NAS_STORAGE", "")  # as if it were not set
    assert str(database_place()) == "postgresql://config/studies"


def test_no_text_of_an_address_holds_its_password(monkeypatch):
    place = database_place(URL)
    assert place.secrets == (SECRET,)
    database = Database(place)
    texts = [
        str(place),
        repr(place),
        repr(database),
        repr(database.engine),
        str(database.engine.url),
        str(vars(database)),
    ]
    assert not any(SECRET in text or ENCODED in text for text in texts)
    assert str(place) == SHOWN
    for thing in (place, database):
        with pytest.raises(TypeError, match="password"):
            pickle.dumps(thing)


def test_a_password_reaches_the_server_as_it_is(monkeypatch):
    import psycopg

    got = {}
    monkeypatch.setattr(psycopg, "connect", got.update)
    database_place(URL).connect(read_only=True)
    assert (got["password"], got["user"], got["host"], got["port"]) == (SECRET, "ann", "db.example.org", 5433)
    assert (got["dbname"], got["sslmode"]) == ("studies", "require")
    assert "default_transaction_read_only=on" in got["options"]


def test_a_password_in_the_command_line_is_refused_and_elsewhere_it_is_not(monkeypatch):
    told = refused(URL, "--storage")
    for part in ("error[password-shown]", "--storage", "PGPASSFILE", "PGPASSWORD", "storage.password_file"):
        assert part in told
    assert "error[password-shown]" in refused(f"postgresql://db/x?password={ENCODED}", "--storage")
    monkeypatch.setenv("NAS_STORAGE", URL)
    assert database_place().secrets == (SECRET,)


def test_the_password_may_be_in_a_file_that_only_its_owner_reads(config, tmp_path):
    write(config, f'[storage]\nurl = "{SHOWN}"\npassword_file = "password"\n', mode=0o644)
    password = config.parent / "password"
    assert "No such file" in refused()
    write(password, SECRET + "\n")
    assert database_place().secrets == (SECRET,)
    assert database_place("postgresql://other/studies").secrets == ()  # it is not told to another server
    for text in ("", "two\nlines", "x" * 2000):
        write(password, text)
        assert "one line" in refused() or "length" in refused()
    write(password, "hunter", mode=0o640)
    assert "chmod 600" in refused()


def test_a_password_in_the_configuration_asks_for_the_same(config):
    write(config, f'[storage]\nurl = "{URL}"\n')
    assert database_place().secrets == (SECRET,)
    config.chmod(0o644)
    assert f"chmod 600 {config}" in refused()


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("", "found nothing"),
        ("x" * 5000, "4,096"),
        ("postgresql://db/stu\ndies", "ASCII"),
        ("mysql://ann:hunter2@db/studies", "PostgreSQL"),
        ("sqlite:////tmp/study.db", "NAS_RUNS"),
        ("studies", "local"),
        ("postgresql://", "names no database"),
        ("postgresql://ann:hunter2@db", "names no database"),
        ("postgresql://ann:hunter2@db:99999/studies", "65,535"),
        ("postgresql://ann:hunter2@db:port/studies", "no address"),
        ("postgresql://ann:hunt@er2@db/studies", "%40"),
        ("postgresql://db/studies?sslmod=require", "did you mean 'sslmode'"),
        ("postgresql://db/studies?sslpassword=hunter2", "question mark"),
        ("postgresql://db/studies?pass%77ord=hunter2", "question mark"),
    ],
)
def test_an_address_that_cannot_be_one_is_refused_with_its_place_and_a_fix(monkeypatch, address, told):
    assert told in refused(address)
    if address:
        monkeypatch.setenv("NAS_STORAGE", address)
        found = refused()
        assert told in found
        assert "NAS_STORAGE" in found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[storage", "end of document"),
        ('storage = "x"', "table"),
        ("[storage]\n", "config.toml:1  storage.url"),
        ("[storage]\nurl = 5\n", "config.toml:2  storage.url"),
        ('[storage]\nurl = "local"\nurk = "x"\n', "did you mean 'url'"),
        ('[storag]\nurl = "local"\n', "did you mean 'storage'"),
        ('[storage]\nurl = "mysql://ann:hunter2@db/x"\n', "storage.url"),
    ],
)
def test_a_wrong_configuration_is_told_with_its_line(config, text, told):
    write(config, text)
    assert told in refused()


def test_a_study_file_names_no_database():
    with pytest.raises(InvalidStudyFile, match="unknown key 'storage'") as caught:
        study_file.parse(f'name = "x"\n[storage]\nurl = "{URL}"\n[task]\ncorpus = "c"\n')
    assert "your own configuration file" in caught.value.help
    assert "nter" not in caught.value.render()


def test_psycopg_that_is_missing_is_told_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UsageError, match="psycopg") as caught:
        Database(database_place("postgresql://db/studies"))
    assert caught.value.help == "pip install 'nas[postgres]'"


def test_masking_leaves_no_password_whatever_is_given():
    for text in (
        URL,
        f"postgresql//x:{SECRET}@h",
        f"://:{SECRET}@",
        f"x://u:{SECRET}@a@b/c",
        f"p://h/d?password={SECRET}",
    ):
        assert "nter" not in masked(text)
    assert isinstance(database_place(URL), DatabasePlace)
