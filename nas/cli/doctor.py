"""`nas doctor`: whether this machine can search, and what to do where it cannot."""

from dataclasses import asdict

import typer

from nas.cli.options import Json


def doctor(json: Json = False) -> None:
    """Check this machine.

    Python, packages, processor, memory, GPUs, the folder of runs, the data at hand: each is ok, warn or fail, with
    what to do about it.

    Exit codes: 0; 1 when something fails.
    """
    from nas.api import machine
    from nas.cli.output import emit
    from nas.cli.tables import answers, table

    findings = machine.doctor()
    failed = sum(finding.level == "fail" for finding in findings)
    if json:
        for finding in findings:
            emit("check", **asdict(finding))
        emit("result", failed=failed)
    else:
        shown = table("", "", "")
        shown.show_header = False
        for finding in findings:
            shown.add_row(finding.level, finding.name, "\n".join(filter(None, (finding.text, finding.fix))))
        answers().print(shown)
    if failed:
        raise typer.Exit(1)
