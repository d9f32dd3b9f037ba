"""`nas stop` asks the driver of a running study to end."""

from typing import Annotated

import typer

from nas.cli.options import StudyName


def stop(
    study: StudyName,
    now: Annotated[bool, typer.Option("--now", help="Running trials save and stop instead of finishing.")] = False,
) -> None:
    """End a running search from another terminal.

    It ends as after one Ctrl-C, or with --now as after two.

    Exit codes: 0 when the search was asked to stop; 2 when there is no such study; 4 when it is not running.
    """
    from nas.api.study import open_study
    from nas.cli.output import people

    open_study(study).stop(now)
    how = "save and stop now" if now else "finish, and no new one starts"
    people().print(f"The search was asked to stop: running trials {how}.")
