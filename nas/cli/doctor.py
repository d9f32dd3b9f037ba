"""`nas doctor` checks whether this machine can search, and says how to mend what prevents it."""

from dataclasses import asdict
from typing import Annotated

import typer

from nas.cli.options import Json
from nas.cli.output import tell
from nas.folders import require_current_folder

Gpu = Annotated[bool, typer.Option("--gpu", help="Check what needs a GPU instead; under fourteen minutes.")]


def doctor(gpu: Gpu = False, json: Json = False) -> None:
    """Check this machine.

    Checks Python, packages, processor, memory, GPUs, the folder of runs and the data sets. Each is ok, warn or fail,
    with what to do about it.

    Exit codes: 0; 1 when something fails; 2 for --gpu without a GPU.
    """
    if gpu:
        _gpu(json)
        return
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


def _gpu(json: bool) -> None:
    """Prints each outcome as soon as it is known; the whole output is what a user reports."""
    require_current_folder()
    from nas.cli.output import emit
    from nas.running.gpu_doctor import examine_gpu, machine

    found = machine()
    if json:
        emit("machine", **found)
    else:
        card, versions = found["gpus"][0], found["versions"]
        tell(f"{card['name']}, {card['memory_gib']:g} GiB, capability {found['capability']}, CUDA {found['cuda']}")
        tell(", ".join(f"{name} {version}" for name, version in versions.items()) + f"; {found['os']}\n")
    failed = 0
    for finding in examine_gpu():
        failed += finding.level == "fail"
        if json:
            emit("check", **asdict(finding))
            continue
        tell(f"{finding.level:4}  {finding.name:13} {finding.text} ({finding.seconds:.0f} s)")
        figures = [
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in finding.figures.items()
        ]
        for line in filter(None, [", ".join(figures), finding.fix]):
            tell(f"      {line}")
    if json:
        emit("result", failed=failed)
    if failed:
        raise typer.Exit(1)
