"""Finds where studies are stored: in a PostgreSQL database, or in files of this machine.

The address comes from --storage (or `storage=` in Python), else from NAS_STORAGE, else from the user's configuration
file. All of them are checked here. An address keeps its password to itself: no text, error or pickle of it holds one.
"""

import os
import re
import string
from typing import Any, NoReturn

import sqlalchemy as sql
from sqlalchemy.exc import ArgumentError

from nas import bounds
from nas.errors import UsageError, nearest
from nas.settings.user_config import config_file, password_of, refuse_open_to_others, user_config

OPTION, VARIABLE, PASSWORD = "--storage", "NAS_STORAGE", "PGPASSWORD"
SECRET_VARIABLES = (VARIABLE, PASSWORD)
"""These are taken from the environment while workers run, since those need no database."""
LOCAL = "local"
"""The value that means the studies under runs/, whatever NAS_STORAGE and the configuration say."""
DRIVER = "postgresql+psycopg"
SCHEMES = ("postgresql", "postgres", DRIVER)
PARAMETERS = (
    *("host", "port", "application_name", "connect_timeout", "options", "passfile", "target_session_attrs"),
    *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "channel_binding", "gssencmode", "krbsrvname"),
)
"""These may stand behind `?`. A password may not, nor that of a key."""
CONNECT_SECONDS = 5
LIMITS = {"lock_timeout": 10, "statement_timeout": 20, "idle_in_transaction_session_timeout": 20}
"""The server's own limits on each session, in seconds."""
FORM = "postgresql://USER@HOST:PORT/DATABASE"
PASSWORDS = (
    "keep the password in a file that PGPASSFILE names (HOST:PORT:DATABASE:USER:PASSWORD, mode 0600), "
    "in PGPASSWORD,\nor in a file that {config} names as storage.password_file"
)


class DatabasePlace:
    """Holds the checked address of a PostgreSQL database. It makes the connections, so nothing else needs the password.

    Its text is the address without a password.
    """

    def __init__(self, url: sql.URL, source: str) -> None:
        password = url.password or os.environ.get(PASSWORD) or None
        self._url, self.source = url.set(drivername=DRIVER, password=password), source
        """`source` says who gave the address: --storage, storage, NAS_STORAGE, or the path of the configuration."""

    @property
    def chosen(self) -> bool:
        """Tells whether this very call asked for the database, rather than the user's surroundings."""
        return self.source not in (VARIABLE, str(config_file()))

    @property
    def secrets(self) -> tuple[str, ...]:
        """Returns what no text may show."""
        return (str(self._url.password),) if self._url.password else ()

    @property
    def name(self) -> str:
        """Returns the database's own name."""
        return str(self._url.database)

    def connect(self, read_only: bool = False) -> Any:
        """Opens a connection of psycopg. Raises UsageError where psycopg is not installed, and what psycopg raises."""
        arguments = dict(self._url.get_dialect()().create_connect_args(self._url)[1])
        own = [f"-c {name}={seconds}s" for name, seconds in LIMITS.items()]
        own += ["-c default_transaction_read_only=on"] if read_only else []
        arguments["options"] = " ".join([*filter(None, [arguments.get("options")]), *own])
        defaults = {"connect_timeout": CONNECT_SECONDS, "keepalives_idle": 10, "keepalives_interval": 5}
        return require_psycopg().connect(**{"application_name": "nas", "keepalives_count": 3, **defaults, **arguments})

    def __str__(self) -> str:
        url = self._url
        shown = sql.URL.create("postgresql", url.username, None, url.host, url.port, url.database, url.query)
        return shown.render_as_string()

    def __repr__(self) -> str:
        return f"<DatabasePlace {self}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DatabasePlace) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __reduce__(self) -> NoReturn:
        raise TypeError("the address of a database stays in its process: it may hold a password")


def database_place(storage: "str | DatabasePlace | None" = None, source: str = "storage") -> DatabasePlace | None:
    """Returns the database that holds the studies; None where they are files under `runs/`.

    `storage` is an address or "local"; None asks NAS_STORAGE, then the configuration. `source` names the option in
    errors. Raises UsageError for an address that cannot be one, and for a password in the command line.
    """
    if isinstance(storage, DatabasePlace):
        return storage
    if storage is not None:
        return None if storage == LOCAL else _checked(storage, source)
    if (found := os.environ.get(VARIABLE)) is not None and found:
        return None if found == LOCAL else _checked(found, VARIABLE)
    settings = user_config().storage
    if settings is None or settings.url == LOCAL:
        return None
    source = str(config_file())
    place = _checked(settings.url, source)
    if sql.make_url(settings.url).password:
        refuse_open_to_others(config_file(), f"{source}  storage.url")
    password = password_of(settings)
    return place if password is None else DatabasePlace(place._url.set(password=password), source)


def _checked(text: str, source: str) -> DatabasePlace:
    """Returns the address as a place. Raises UsageError, which never shows a password."""
    where = f"{source}  storage.url" if os.sep in source else source
    shown = masked(text)
    if not text or len(text) > bounds.PATH or any(character not in PRINTABLE for character in text):
        message = f"expected an address of 1 to {bounds.PATH:,} characters of ASCII"
        raise _refused(message, where, shown, f"give {FORM}; write other characters as %XX")
    scheme = text.partition(":")[0]
    if scheme not in SCHEMES:
        help = f"give {FORM}, or {LOCAL} for the studies under runs/ on this machine"
        if scheme.startswith("sqlite"):
            help = f"SQLite studies lie under runs/, or where NAS_RUNS says: give {LOCAL}, or leave {source} out"
        raise _refused("studies are stored in PostgreSQL, or in files under runs/", where, shown, help)
    try:
        url = sql.make_url(text)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        url = None
    if url is None or "@" in (url.host or ""):
        raise _refused("this is no address of a database", where, shown, f"give {FORM}; write @ in a name as %40")
    if not url.database or not (url.port is None or 0 < url.port < 65_536):
        fault = "the address names no database" if not url.database else "a port is from 1 to 65,535"
        raise _refused(fault, where, shown, f"give {FORM}")
    return DatabasePlace(_without_secrets(url, text, where, source), source)


def _without_secrets(url: sql.URL, text: str, where: str, source: str) -> sql.URL:
    """Refuses a password that others can see, and parameters that are unknown or hold one."""
    hidden = [key for key in url.query if "password" in key]
    if source.startswith("--") and (url.password or hidden):
        raise UsageError(
            "the address holds a password, which everybody on this machine can read in the list of processes",
            code="password-shown",
            where=where,
            detail=f"found {masked(text)}",
            help=PASSWORDS.format(config=config_file()) + "\nand change this one, which is in your shell's history too",
        )
    if hidden:
        message = f"a password does not belong behind the question mark of an address ({hidden[0]})"
        raise UsageError(message, code="storage", where=where, help=PASSWORDS.format(config=config_file()))
    for key in url.query:
        if key not in PARAMETERS:
            message = f"unknown parameter '{key}' of an address"
            raise UsageError(message, code="storage", where=where, help=nearest(key, PARAMETERS))
    return url


PRINTABLE = set(string.ascii_letters + string.digits + string.punctuation)


def masked(text: str) -> str:
    """Returns an address, or what was meant as one, without anything that may be a password."""
    text = re.sub(r"//([^/:@?]*):.*@", r"//\1:***@", text[: bounds.PATH], flags=re.DOTALL)
    return re.sub(r"(password=)[^&]*", r"\1***", text)


def _refused(message: str, where: str, shown: str, help: str) -> UsageError:
    return UsageError(message, code="storage", where=where, detail=f"found {shown or 'nothing'}", help=help)


def require_psycopg() -> Any:
    """Returns the package for PostgreSQL. Raises UsageError where it is not installed."""
    try:
        import psycopg
    except ImportError as error:
        text = "PostgreSQL needs the package psycopg, which is not installed"
        raise UsageError(text, code="no-psycopg", help="pip install 'nas[postgres]'") from error
    return psycopg
