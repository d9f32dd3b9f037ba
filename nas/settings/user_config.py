"""Reads the user's own configuration file, such as ~/.config/nas/config.toml: where studies are stored.

The file belongs to a user and a machine, not to a study, so it may hold what no study file may: the address of a
database, and the name of the file with its password.
"""

import os
import stat
from pathlib import Path
from typing import Annotated

from platformdirs import user_config_path
from pydantic import Field, ValidationError

from nas import bounds, files
from nas.errors import UsageError, nearest
from nas.toml_table import Table, in_words, line_of, tables_of

NAME = "config.toml"
MOST_PASSWORD = 1_000
"""The most characters of a password."""
NOT_IN_A_STUDY_FILE = {
    "storage": "a study file is shared with others, so it names no database: give --storage or NAS_STORAGE, "
    "or write [storage] into your own configuration file"
}
"""Tells where keys belong that a study file may not have."""


class StorageSettings(Table):
    """Holds the `[storage]` table: the address of a database, and the file with its password."""

    url: Annotated[str, Field(max_length=bounds.PATH)]
    password_file: Annotated[str, Field(max_length=bounds.PATH)] | None = None


class UserConfig(Table):
    """Holds the whole file."""

    storage: StorageSettings | None = None


def config_file() -> Path:
    """Returns the file's place: in $XDG_CONFIG_HOME/nas, or in the platform's folder for settings."""
    return user_config_path("nas", appauthor=False) / NAME


def user_config() -> UserConfig:
    """Returns the user's configuration, which is empty where there is no file.

    Raises UsageError for a file that cannot be read, unknown keys and wrong values. No error shows a value.
    """
    path = config_file()
    try:
        text = files.read_bytes(path, bounds.FILE_BYTES).decode()
        return UserConfig.model_validate(tables_of(text))
    except (FileNotFoundError, NotADirectoryError):
        return UserConfig()
    except ValidationError as error:
        raise _explained(error, text, path) from None
    except (OSError, ValueError) as error:
        if isinstance(error, PermissionError) and not os.path.lexists(path):
            return UserConfig()  # a home that is closed to this user, such as that of whoever called sudo
        raise _unusable(str(path), str(error)) from None


def password_of(settings: StorageSettings) -> str | None:
    """Returns the password in the file that the settings name; None where they name none. A relative path starts at
    the configuration's folder.

    Raises UsageError where the file is missing, empty or too long, or where others than its owner may read it.
    """
    if settings.password_file is None:
        return None
    path = config_file().parent / Path(settings.password_file).expanduser()
    where = f"{config_file()}  storage.password_file"
    try:
        refuse_open_to_others(path, where)
        password = files.read_bytes(path, 4 * MOST_PASSWORD).decode().rstrip("\r\n")
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: no such home
        reason = getattr(error, "strerror", None) or "it is no text file of a password's length"
        raise UsageError(f"the password file cannot be used: {reason}", code="config", where=where) from None
    if not 0 < len(password) <= MOST_PASSWORD or any(not character.isprintable() for character in password):
        text = f"the password file has to hold one line of 1 to {MOST_PASSWORD:,} printable characters"
        raise UsageError(text, code="config", where=where)
    return password


def refuse_open_to_others(path: Path, where: str) -> None:
    """Raises UsageError where others than its owner may read or change a file with a password, and OSError."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        text = f"others may read the file with the password: its mode is {mode:04o}"
        raise UsageError(text, code="config", where=where, help=f"chmod 600 {path}")


def _explained(error: ValidationError, text: str, path: Path) -> UsageError:
    first = error.errors(include_url=False)[0]
    key = ".".join(map(str, first["loc"]))
    line = line_of(text, key)
    where = f"{path}:{line}  {key}" if line else f"{path}  {key}"
    if first["type"] == "extra_forbidden":
        valid = StorageSettings.model_fields if len(first["loc"]) > 1 else UserConfig.model_fields
        help = nearest(str(first["loc"][-1]), valid)
        return UsageError(f"unknown key '{first['loc'][-1]}'", code="config", where=where, help=help)
    return UsageError(f"{key}: {in_words(first)}", code="config", where=where)


def _unusable(where: str, said: str) -> UsageError:
    return UsageError("the configuration file cannot be used", code="config", where=where, detail=said)
