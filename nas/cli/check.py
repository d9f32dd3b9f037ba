"""`nas check`: what a study file describes, how large that is, and about how long it takes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.options import Overrides, Preset

if TYPE_CHECKING:
    from rich.console import Console

    from nas.settings.study_file import StudyFile


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A study file (TOML).")],
    preset: Preset = None,
    overrides: Overrides = None,
) -> None:
    """Check a study file.

    Prints the size of its space, five architectures drawn from it, and an estimate of the time that training takes.

    Exit codes: 0; 2 when something in the file is wrong, with its line.
    """
    from nas.api.checking import describe
    from nas.cli.tables import answers
    from nas.running.placement import place
    from nas.settings import study_file

    settings = study_file.load(file, overrides or [], preset)
    print_description(settings, describe(settings, place(settings).slots), answers())


def print_description(file: "StudyFile", described: dict[str, Any], console: "Console") -> None:
    """Prints the description for people."""
    from nas.architecture import Architecture
    from nas.cli.tables import pairs, span, table

    steps = f"{file.search.trials} trials of {file.train.steps} steps"
    facts = {
        "study": file.name,
        "task": f"{file.task.kind}, {file.task.data}, context {file.task.context}",
        "space": f"{described['space_size']:,} architectures",
        "objectives": ", ".join(f"{o.goal} {o.metric}" for o in file.objective_list()),
        "constraints": ", ".join(map(str, file.constraint_list())) or "none",
        "time": f"about {span(described['seconds'])} (an estimate) to train {steps}; measuring comes on top",
    }
    console.print(pairs(facts))
    if described["too_long"]:
        console.print(described["too_long"])
    shown = table("parameters", "some of its architectures", numbers=("parameters",))
    for sample in described["samples"]:
        shown.add_row(f"{sample['params']:,}", str(Architecture.model_validate(sample["architecture"])))
    console.print("", shown, sep="\n")
