"""Defines arguments and options that several commands share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from nas.errors import UsageError

MOST_SEED = 2**31 - 1
"""The largest seed. From larger ones torch's generator on a CPU takes the last 32 bits, and some of these are reserved
for evaluation.
"""


def out_folder(text: str) -> Path:
    """Returns the value of --out. Raises UsageError for an empty one, which would be the current folder."""
    if not text:
        raise UsageError("--out is empty", where="--out", help="name a folder, or leave --out out")
    return Path(text)


@contextmanager
def naming_options() -> Iterator[None]:
    """Renames parameters in errors as the command line does: `max_fail_rate` is --max-fail-rate."""
    try:
        yield
    except UsageError as error:
        name = error.where
        if not name.isidentifier():
            raise
        option = "-s" if name == "overrides" else f"--{name.replace('_', '-')}"
        message = option + error.message.removeprefix(name) if error.message.startswith(f"{name} ") else error.message
        raise type(error)(message, code=error.code, where=option, detail=error.detail, help=error.help) from None


StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="A name under runs/, or the path of its folder.")]
STORAGE = "--storage"
Storage = Annotated[
    str | None,
    typer.Option(STORAGE, metavar="URL", help="The database of the study (postgresql://USER@HOST/DATABASE), or local."),
]
FOLDER = "--folder"
Folder = Annotated[
    str | None,
    typer.Option(FOLDER, metavar="PATH|URL", help="Where trials keep their files, if not in the study's own folder."),
]
TrialNumber = Annotated[
    int, typer.Argument(metavar="TRIAL", min=0, help="The trial's number, as `nas front` lists it.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output.")]
Verbose = Annotated[
    int, typer.Option("-v", "--verbose", count=True, show_default=False, help="More detail; -vv shows tracebacks.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("-s", "--set", metavar="key=value", help="Override a key of the file, as in -s train.steps=100."),
]
TrainingOverrides = Annotated[
    list[str] | None,
    typer.Option(
        "-s",
        "--set",
        metavar="key=value",
        help="Change a key of [train], or task.split, as in -s train.learning_rate=0.01.",
    ),
]
Preset = Annotated[
    str | None,
    typer.Option("--preset", metavar="NAME", help="Change the file by its table [presets.NAME], before -s."),
]
