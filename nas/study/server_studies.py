"""Opens the studies in a PostgreSQL database for reading, and lists those that nas made.

Sessions are read-only, so a user who may only read the tables can use every reading command. Nothing is created.
"""

from dataclasses import dataclass
from functools import partial

import sqlalchemy as sql

from nas.errors import Conflict, UsageError, nearest
from nas.printable import on_one_line
from nas.settings.study_file import STUDY_NAME
from nas.study import checked
from nas.study.database import FOREIGN_STUDY, MARK
from nas.study.database_place import DatabasePlace
from nas.study.store import Store
from nas.study.transactions import Database

PATIENCE_SECONDS = 10.0
MOST_STUDIES = 10_000
MOST_VALUE_BYTES = 2**26
"""The most bytes of one stored value."""
STUDIES = sql.table("studies", sql.column("study_id"), sql.column("study_name"))
SYSTEM = sql.table("study_system_attributes", sql.column("study_id"), sql.column("key"))
OF_STUDY = sql.table("study_user_attributes", sql.column("study_id"), sql.column("value_json"))
TRIALS = sql.table("trials", sql.column("trial_id"), sql.column("study_id"))
OF_TRIAL = sql.table("trial_user_attributes", sql.column("trial_id"), sql.column("value_json"))


@dataclass(frozen=True)
class Listed:
    """Tells of a study in a database: its name, and whether nas made it."""

    name: str
    ours: bool


def studies_in(place: DatabasePlace) -> list[Listed]:
    """Lists the studies of the database by name, those of other programs too.

    Raises OutOfReach where the database does not answer or refuses.
    """
    reader = _reader(place)
    try:
        return reader.read(_listed)
    finally:
        reader.close()


def check_readable(place: DatabasePlace, name: str) -> None:
    """Raises UsageError where there is no study of that name, Conflict where nas did not make it, and OutOfReach."""
    reader = _reader(place)
    try:
        studies = {each.name: each for each in reader.read(_listed)}
        if name not in studies:
            ours = [each.name for each in studies.values() if each.ours and STUDY_NAME.fullmatch(each.name)]
            help = nearest(name, ours) if ours else "the database holds no study of nas yet"
            raise UsageError(f"no study '{name}'", code="no-such-study", where=str(place), help=help)
        if not studies[name].ours:
            text = f"nas did not make the study '{name}'; it stays unchanged"
            raise Conflict(text, code="not-a-study", where=str(place), help=FOREIGN_STUDY)
        refuse_name(name, place)
        longest = reader.read(partial(_longest, name=name))
    finally:
        reader.close()
    if longest > MOST_VALUE_BYTES:
        where = f"{place}  {name}"
        checked.damaged(where, "a stored value", f"{longest:,} bytes", f"at most {MOST_VALUE_BYTES:,} bytes")


def opened(place: DatabasePlace, name: str) -> Store:
    """Opens the study of that name for reading. Raises as `check_readable`, and Conflict for another version."""
    check_readable(place, name)
    return Store(Database(place, patience=PATIENCE_SECONDS, read_only=True), name)


def refuse_name(name: str, place: DatabasePlace) -> None:
    """Raises Conflict for a stored name that no study file gives."""
    if not STUDY_NAME.fullmatch(name):
        text = f"a study of this database has a name that nas gives to none: '{on_one_line(name)[: checked.SHOWN]}'"
        raise Conflict(text, code="damaged", where=str(place), help="a name is letters, digits, '_', '-' and '.'")


def _reader(place: DatabasePlace) -> Database:
    reader = Database(place, patience=PATIENCE_SECONDS, read_only=True)
    try:
        reader.check()
    except BaseException:
        reader.close()
        raise
    return reader


def _listed(connection: sql.Connection) -> list[Listed]:
    if not sql.inspect(connection).has_table(STUDIES.name):
        return []
    marked = sql.exists().where(SYSTEM.c.study_id == STUDIES.c.study_id, SYSTEM.c.key == MARK)
    wanted = sql.select(STUDIES.c.study_name, marked).order_by(STUDIES.c.study_name).limit(MOST_STUDIES)
    return [Listed(str(name), bool(ours)) for name, ours in connection.execute(wanted)]


def _longest(connection: sql.Connection, name: str) -> int:
    """Returns the length in bytes of the longest value that nas stored of the study, without reading any."""
    study = sql.select(STUDIES.c.study_id).where(STUDIES.c.study_name == name).scalar_subquery()
    joined = OF_TRIAL.join(TRIALS, TRIALS.c.trial_id == OF_TRIAL.c.trial_id)
    lengths = (
        sql.select(sql.func.max(sql.func.octet_length(OF_STUDY.c.value_json))).where(OF_STUDY.c.study_id == study),
        sql.select(sql.func.max(sql.func.octet_length(OF_TRIAL.c.value_json)))
        .select_from(joined)
        .where(TRIALS.c.study_id == study),
    )
    return max(connection.execute(length).scalar() or 0 for length in lengths)
