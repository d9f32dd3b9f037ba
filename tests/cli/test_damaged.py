"""Stored studies damaged in every way that was thought of: a clear error each time, never an internal one."""

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import pytest

from nas.errors import NasError
from nas.study.standing import standing
from nas.study.stored_study import open_study

DEEP = "[" * 900 + "]" * 900
BOTTOMLESS = "[" * 100_000 + "]" * 100_000
LONG = json.dumps("x" * 200_000)
ODD = ("null", "[]", '"x"', "-1", "NaN", "{", DEEP, BOTTOMLESS, LONG, '{"a": {"b": "c"}}')
TRIAL = (
    "architecture",
    "architecture_id",
    "metrics",
    "rungs",
    "attempt",
    "proposed",
    "reason",
    "detail",
    "learning_rate",
)
TRIAL += ("baseline", "predicted", "bound", "control", "redraws")
STUDY = ("settings", "data", "environment", "created", "budget", "remeasured:0", "remeasured:x")
COMMANDS = (("list", "--json"), ("front", "demo"), ("show", "demo", 0, "--json"))

SQL = {
    "no such state": "UPDATE trials SET state = 'LOST' WHERE number = 0",
    "a number twice": "UPDATE trials SET number = 0",
    "no number": "UPDATE trials SET number = NULL WHERE number = 1",
    "a gap": "DELETE FROM trials WHERE number = 1",
    "no date": "UPDATE trials SET datetime_complete = NULL, datetime_start = NULL",
    "a wrong date": "UPDATE trials SET datetime_complete = 'yesterday'",
    "no values": "DELETE FROM trial_values",
    "a text as value": "UPDATE trial_values SET value = 'x'",
    "no directions": "DELETE FROM study_directions",
    "a direction too many": "INSERT INTO study_directions VALUES (99, 'MINIMIZE', 1, 7)",
    "no parameters": "DELETE FROM trial_params",
    "a wrong parameter": "UPDATE trial_params SET param_value = 99",
    "a wrong distribution": 'UPDATE trial_params SET distribution_json = \'{"name": "None"}\'',
    "no attributes": "DELETE FROM trial_user_attributes",
    "no version": "DELETE FROM alembic_version",
    "another version": "UPDATE alembic_version SET version_num = 'v9.9.9.a'",
    "no study": "DELETE FROM studies",
    "a limit that is a text": "UPDATE trial_system_attributes SET value_json = '\"x\"'",
    "a table gone": "DROP TABLE trial_values",
    "another table gone": "DROP TABLE trial_params",
    "a column gone": "ALTER TABLE trial_user_attributes RENAME COLUMN value_json TO other",
}


def damage(runs: Path, statement: str, *values: str) -> None:
    with closing(sqlite3.connect(runs / "demo" / "study.db")) as database:
        database.execute("PRAGMA foreign_keys = OFF")
        database.execute(statement, values)
        database.commit()


@pytest.fixture(scope="module")
def sound(stored, tmp_path_factory):
    """The database as it was, to be put back before each damage."""
    return shutil.copyfile(stored / "demo" / "study.db", tmp_path_factory.mktemp("sound") / "study.db")


def check(nas) -> None:
    for command in COMMANDS:
        ran = nas(*command)
        assert "error[internal]" not in ran.err, (command, ran.err)
        assert ran.code in (0, 2, 3, 4, 5), (command, ran.err)


def read_all(runs: Path) -> None:
    """Reads what the reading commands read, without the time that printing takes. Any error but our own is a fault."""
    told = ""
    try:
        study = open_study(runs / "demo")
        trials = study.record_for_report().trials
        json.dumps([standing(study), [asdict(trial) for trial in trials]], allow_nan=False)
        assert all(trial.model for trial in trials)
    except NasError as error:
        told = error.render()
    assert len(told) < 2000


@pytest.mark.slow
@pytest.mark.parametrize("key", TRIAL)
def test_attributes_of_a_trial(runs, sound, key):
    for value in ODD:
        shutil.copyfile(sound, runs / "demo" / "study.db")
        damage(runs, "DELETE FROM trial_user_attributes WHERE key = ? AND trial_id = 1", key)
        row = "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (1, ?, ?)"
        damage(runs, row, key, value)
        read_all(runs)


@pytest.mark.slow
@pytest.mark.parametrize("key", STUDY)
def test_attributes_of_a_study(runs, sound, key):
    for value in ODD:
        shutil.copyfile(sound, runs / "demo" / "study.db")
        damage(runs, "DELETE FROM study_user_attributes WHERE key = ?", key)
        damage(runs, "INSERT INTO study_user_attributes (study_id, key, value_json) VALUES (1, ?, ?)", key, value)
        read_all(runs)


@pytest.mark.parametrize("statement", SQL.values(), ids=SQL)
def test_tables(runs, statement):
    damage(runs, statement)
    read_all(runs)


@pytest.mark.parametrize("statement", ["UPDATE trials SET number = 0", "UPDATE trials SET number = 7 WHERE number = 1"])
def test_numbers_that_are_not_distinct_or_leave_one_out_stop_that_study_alone(nas, runs, settings, statement):
    shutil.copytree(runs / "demo", runs / "sound")
    damage(runs, statement)
    file = runs.parent / "demo.toml"
    file.write_text(settings.to_toml())
    for command in (("front", "demo"), ("status", "demo"), ("search", file), ("resume", "demo")):
        ran = nas(*command)
        assert (ran.code, "error[damaged]" in ran.err, "number" in ran.err) == (4, True, True), (command, ran.err)
    broken, sound = sorted(map(json.loads, nas("list", "--json").out.splitlines()[:-1]), key=lambda told: told["study"])
    assert "number" in broken["error"]
    assert sound["study"] == "sound"
    assert "error" not in sound


def test_the_place_and_the_value_are_told(nas, runs):
    damage(
        runs,
        "UPDATE trial_user_attributes SET value_json = ? WHERE key = 'metrics' AND trial_id = 1",
        '{"val_loss": "low"}',
    )
    ran = nas("status", "demo")
    assert ran.code == 4
    for part in ("error[damaged]", "trial 0", "metrics.val_loss", "'low'"):
        assert part in ran.err


def test_a_list_tells_damage_in_what_it_reads_and_no_other(nas, runs, sound):
    damage(runs, "UPDATE trial_user_attributes SET value_json = '[' WHERE key = 'metrics'")
    listed = json.loads(nas("list", "--json").out.splitlines()[0])
    assert (listed["trained"], len(listed["front"])) == (6, 3)
    for statement, told in (
        ("UPDATE trial_system_attributes SET value_json = '\"low\"'", "constraints:params"),
        ("UPDATE trial_values SET value = 'x'", "ValueError"),
        ("UPDATE trials SET state = 'LOST'", "ValueError"),
        ("UPDATE trials SET number = NULL", "number"),
    ):
        shutil.copyfile(sound, runs / "demo" / "study.db")
        damage(runs, statement)
        assert told in json.loads(nas("list", "--json").out.splitlines()[0])["error"], statement


def test_one_bad_study_does_not_hide_the_others(nas, runs):
    shutil.copytree(runs / "demo", runs / "good")
    damage(runs, "UPDATE study_user_attributes SET value_json = '[' WHERE key = 'settings'")
    ran = nas("list", "--json")
    rows = {row.get("study"): row for row in map(json.loads, ran.out.splitlines())}
    assert ran.code == 0
    assert "error" in rows["demo"]
    assert rows["good"]["trained"] == 6


def test_settings_of_another_version_say_so(nas, runs):
    change = "UPDATE study_user_attributes SET value_json = json_set(value_json, ?, 1) WHERE key = ?"
    damage(runs, change, "$.train.from_the_future", "settings")
    damage(
        runs,
        "UPDATE study_user_attributes SET value_json = json_set(value_json, ?, '9.9') WHERE key = ?",
        "$.versions.nas",
        "environment",
    )
    ran = nas("status", "demo")
    assert ran.code == 4
    for part in ("another version", "nas 9.9", "from_the_future"):
        assert part in ran.err


MAPS = (
    b"",
    b"{",
    b"[]",
    b'{"maps": 1}',
    b'{"tokens": [], "source_tokens": [], "maps": [{"name": "a"}]}',
    b"\xff\xfe",
    DEEP.encode(),
)


@pytest.mark.parametrize("content", MAPS)
def test_attention_maps(nas, runs, content):
    number = json.loads(nas("status", "demo", "--json").out)["front"][0]
    folder = runs / "demo" / "trials" / str(number)
    folder.mkdir(parents=True)
    (folder / "attention_maps.json").write_bytes(content)
    ran = nas("report", "demo")
    assert (ran.code, "attention_maps.json" in ran.err) == (4, True)


@pytest.mark.slow
def test_a_database_in_pieces(nas, runs, sound):
    content = sound.read_bytes()
    for i in range(0, len(content), len(content) // 12):
        (runs / "demo" / "study.db").write_bytes(content[:i])
        read_all(runs)
        (runs / "demo" / "study.db").write_bytes(content[:i] + b"\xff" * 512 + content[i + 512 :])
        read_all(runs)
    check(nas)
