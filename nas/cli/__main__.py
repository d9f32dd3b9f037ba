"""Runs `nas`: the table of commands, and the handling of errors.

Standard error is for people, standard output for programs. A NasError is shown as its own message and ends with its
exit code. Any other exception is a bug: it is shown in one line, with the traceback in the log (or on the screen with
-vv).
"""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from nas import __version__
from nas.cli import (
    bench,
    check,
    confirm,
    data,
    delete,
    doctor,
    fork,
    front,
    generate,
    init,
    list_,
    report,
    resume,
    search,
    show,
    spaces,
    status,
    stop,
    train,
)
from nas.cli.streams import ReaderGone, safe_streams, written
from nas.errors import NasError
from nas.files import append_text
from nas.folders import closed
from nas.printable import printable

app = typer.Typer(
    name="nas",
    help="Search small Transformers for the best trade-offs of quality, latency and memory on this machine.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # which would take [train] in a help text for markup, and show flags as <bool>
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"nas {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


COMMANDS: dict[str, Callable[..., None]] = {
    "search": search.search,
    "resume": resume.resume,
    "stop": stop.stop,
    "status": status.status,
    "list": list_.list_studies,
    "front": front.front,
    "show": show.show,
    "confirm": confirm.confirm,
    "report": report.report,
    "train": train.train,
    "generate": generate.generate,
    "fork": fork.fork,
    "delete": delete.delete,
    "spaces": spaces.spaces,
    "init": init.init,
    "check": check.check,
    "doctor": doctor.doctor,
}
app.add_typer(bench.bench, name="bench")
app.add_typer(data.data, name="data")
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)


def main() -> None:
    """Runs the command line. Exit codes: nas.errors; 129, 130 and 143 after a signal."""
    with safe_streams():
        code = _ended(app)
        # What is still to be written fails like what was: see nas.cli.streams.
        code = _ended(written) or code
    if "ray" in sys.modules:
        from nas.running.helper_processes import leave

        leave(code)
    sys.exit(code)


def _ended(call: Callable[[], object]) -> int:
    """Returns the exit code of a call, and shows its error."""
    loud = sum(a.count("v") for a in sys.argv if a.strip("v") == "-") + sys.argv.count("--verbose") > 1
    try:
        call()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except NasError as error:
        if loud:
            traceback.print_exc()
        return _shown(error)
    except KeyboardInterrupt:
        return 130
    except ReaderGone:
        return 0
    except PermissionError as error:
        if loud:
            traceback.print_exc()
        return _shown(closed(error.filename or ""))
    except Exception as error:
        if loud:
            raise
        print(_bug(error), file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _shown(error: NasError) -> int:
    print(error.render(), file=sys.stderr)  # noqa: T201  the one place where errors are shown
    return error.exit_code


def _bug(error: Exception) -> str:
    summary = f"error[internal]: {printable(f'{type(error).__name__}: {error}')}"
    folder = Path(os.environ.get("NAS_RUNS", "runs"))
    try:
        append_text(folder / "nas.log", traceback.format_exc() + "\n")
    except OSError:
        return f"{summary}\n  help: run the command again with -vv for the traceback"
    return f"{summary}\n  help: this is a bug in nas; the traceback is in {folder / 'nas.log'}"


if __name__ == "__main__":
    main()
