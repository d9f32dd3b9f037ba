"""Opens a study's database, to write or to read without leaving a trace, and tells whether `nas` made it.

A path is always escaped in a URL: `?`, `#`, `%` and braces have a meaning there. Reading opens the file read-only and
creates no file beside it, so everyone who may read a study's files may read the study.
"""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import sqlalchemy as sql
from optuna.storages import RDBStorage
from sqlalchemy.pool import NullPool

from nas import files
from nas.errors import Conflict, OutOfReach
from nas.folders import absolute

DATABASE, ENVIRONMENT = "study.db", "environment.json"
MARK, FORMAT = "nas:format", 1
"""The system attribute of every study that `nas` has made since 0.2, and its value: the version of the row format."""
UNMADE_KEYS = {"data", "environment", "created", "budget"}
"""Version 0.1 wrote these attributes of a study before the study was complete."""

UNMADE = "if no search is making it just now, one was cut short: search again with its study file"
DAMAGED = "the file is damaged: restore a copy of it, or move the study's folder away and search again"
NO_ANSWER = "check that the disk has room and may be written"
_newest_version: list[str] = []
SERVER_HELP = "check that the server runs and lets you in; nothing that was told before is lost"
FOREIGN_STUDY = "choose another name for the study: nas search FILE --study NAME"
FOREIGN = "move it away, or choose another name for the study: nas search FILE --study NAME"


def sqlite_url(folder: Path) -> str:
    """Returns the address of the study in this folder, as Optuna takes it, for any name that a folder may have."""
    return file_url(folder / DATABASE)


def file_url(path: Path) -> str:
    # Percent signs within the database part are decoded by some versions of SQLAlchemy: it renders what it parses.
    return sql.URL.create("sqlite", database=_uri(path), query={"uri": "true"}).render_as_string()


def writing_storage(url: str) -> RDBStorage:
    """Opens a SQLite storage to write to, and makes tables where there are none."""
    storage = of_newest_version(partial(RDBStorage, url))

    # A trial's writes take half the time so (measured: 66 against 146 ms for 20 parameters). The journal survives
    # a killed process; only a power cut may lose the last rows, never the file.
    @sql.event.listens_for(storage.engine, "connect")
    def _pragmas(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA busy_timeout=10000")

    storage.engine.dispose()
    return storage


def reading_storage(path: Path) -> RDBStorage:
    """Opens the SQLite file with read-only connections."""
    return RDBStorage(
        "sqlite://",
        engine_kwargs={"creator": lambda: read_only(path), "poolclass": NullPool},
        skip_table_creation=True,
    )


def of_newest_version(opened: Callable[..., RDBStorage]) -> RDBStorage:
    """Opens a storage; Optuna raises RuntimeError where another version of it made the tables.

    Optuna looks through all its migrations for the newest version, which takes 60 ms; here, once a process.
    """
    storage = opened(skip_compatibility_check=True)
    if not _newest_version:
        _newest_version.append(storage.get_head_version())
    return storage if storage.get_current_version() == _newest_version[0] else opened()


def read_only(path: Path) -> sqlite3.Connection:
    """Opens a connection that writes nothing, neither into the file nor beside it. Raises sqlite3.Error.

    A database in write-ahead mode needs its two companion files to be read. They exist while a driver has it open, and
    after a driver was killed. Otherwise everything is in the one file, which no process writes, and which is read
    without locks.
    """
    journal, index = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    if not journal.exists() or (not index.exists() and not journal.stat().st_size):
        return _connected(path, "mode=ro&immutable=1")
    if index.exists():
        return _connected(path, "mode=ro")
    return _read_copy(path, journal)


def _connected(path: Path, options: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{_uri(path)}?{options}", uri=True, check_same_thread=False)
    connection.execute("PRAGMA busy_timeout=10000")
    return connection


def _read_copy(path: Path, journal: Path) -> sqlite3.Connection:
    """Reads a copy in memory, where the journal has rows but its index is gone: SQLite would create an index here."""
    with tempfile.TemporaryDirectory(prefix="nas-read-") as folder:
        copy = Path(folder) / DATABASE
        shutil.copyfile(path, copy)
        shutil.copyfile(journal, copy.with_name(copy.name + "-wal"))
        memory = sqlite3.connect(":memory:", check_same_thread=False)
        with closing(sqlite3.connect(copy)) as stored:
            stored.backup(memory)
    return memory


def refuse_foreign(path: Path) -> None:
    """Raises Conflict unless `nas` made this SQLite file, and OutOfReach when it cannot be read. Changes nothing."""
    if not is_whole(path):
        raise Conflict("this study is incomplete", code="half-created", where=os.fspath(path), help=UNMADE)


def is_whole(path: Path) -> bool:
    """Tells whether a study of ours is complete; False where its creation was cut short. Raises as `refuse_foreign`."""
    files.refuse_links(path.parent, path.name)
    if not path.is_file():
        raise _foreign(path, "it is not an ordinary file")
    with _looked_into(path) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"studies", "trials", "study_user_attributes", "study_system_attributes"} <= tables:
            raise _foreign(path, "it has no Optuna study" if tables else "it is empty")
        studies = connection.execute("SELECT study_id FROM studies LIMIT 2").fetchall()
        if len(studies) != 1:
            raise _foreign(path, "it holds several studies" if studies else "it holds no study")
        marked = connection.execute("SELECT 1 FROM study_system_attributes WHERE key = ?", (MARK,)).fetchone()
        keys = {key for (key,) in connection.execute("SELECT key FROM study_user_attributes")}
        trials = connection.execute("SELECT count(*) FROM trials").fetchone()[0]
    if marked or keys >= {"settings", "data", "environment"}:
        return True
    # Version 0.1 left its environment beside the database, then attributes, one by one, before there was any trial.
    if trials or not keys <= UNMADE_KEYS or not is_our_environment(path.parent):
        raise _foreign(path, f"its study has {trials} trials, and the attributes {', '.join(sorted(keys)) or 'none'}")
    return False


def is_our_environment(folder: Path) -> bool:
    """Tells whether the folder holds the machine's description that `nas` writes beside each study."""
    try:
        environment = files.read_json(files.refuse_links(folder, ENVIRONMENT))
    except (OSError, ValueError):
        return False
    versions = environment.get("versions") if isinstance(environment, dict) else None
    return isinstance(versions, dict) and "nas" in versions


@contextmanager
def _looked_into(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(read_only(path)) as connection:
            yield connection
    except (sqlite3.Error, OSError) as error:
        raise out_of_reach(error, path) from error
    except UnicodeDecodeError as error:
        text = "the study's database does not answer: it holds text that is none"
        raise OutOfReach(text, where=os.fspath(path), help=DAMAGED) from error


def _foreign(path: Path, detail: str) -> Conflict:
    text = "nas did not make this database; it stays unchanged"
    return Conflict(text, code="not-a-study", where=os.fspath(path), detail=detail, help=FOREIGN)


def out_of_reach(error: Exception, path: Path | None = None) -> OutOfReach:
    """Returns the error that tells the user what the database or the disk refused."""
    cause = error.__cause__ or error
    origin = cast("Exception", getattr(cause, "orig", None) or cause)
    # The lower byte is the primary code; the others tell variants of it apart.
    damaged = getattr(origin, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    said = getattr(origin, "strerror", None) or (str(origin).splitlines() or [type(origin).__name__])[0]
    text = f"the study's database does not answer: {said}"
    help = DAMAGED if damaged else SERVER_HELP if hasattr(origin, "sqlstate") else NO_ANSWER
    return OutOfReach(text, where=os.fspath(path) if path else "", help=help)


def _uri(path: Path) -> str:
    """Returns the path in SQLite's own form, with every byte kept."""
    return f"file:{quote(os.fsencode(absolute(path)))}"
