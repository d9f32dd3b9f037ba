"""`nas stop` asks the drivers of a running study to end."""

from typing import Annotated

import typer

from nas.cli.options import STORAGE, Storage, StudyName, naming_options


def stop(
    study: StudyName,
    now: Annotated[bool, typer.Option("--now", help="Running trials save and stop instead of finishing.")] = False,
    driver: Annotated[
        str | None, typer.Option("--driver", metavar="ID", help="Only this driver, as `nas status` shows it.")
    ] = None,
    storage: Storage = None,
) -> None:
    """End a running search from another terminal or machine.

    All its drivers end as after one Ctrl-C, or with --now as after two.

    Exit codes: 0 when the search was asked to stop; 2 when there is no such study or driver; 4 when it is not running.
    """
    from nas.api.study import open_study
    from nas.cli.output import people

    with naming_options():
        asked = open_study(study, storage, STORAGE).stop(now, driver)
    how = "save and stop now" if now else "finish, and no new one starts"
    whom = "The search" if asked == 1 else f"Its {asked} drivers"
    people().print(f"{whom} {'was' if asked == 1 else 'were'} asked to stop: running trials {how}.")
