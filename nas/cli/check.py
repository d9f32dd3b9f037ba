"""`nas check` shows what a study file describes, how large its space is, and about how long a search takes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.options import Overrides, Preset
from nas.folders import require_current_folder
from nas.formatting import duration

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
    require_current_folder()
    from nas.api.checking import describe
    from nas.cli.tables import answers
    from nas.running.placement import place
    from nas.settings import study_file

    settings = study_file.load(file, overrides or [], preset)
    print_description(settings, describe(settings, place(settings).slots), answers())


def _memory(largest: dict[str, Any] | None) -> str:
    """Tells what training the largest architecture takes, beside Python and its libraries."""
    from nas.architecture import Architecture

    if not largest:
        return ""
    named = Architecture.model_validate(largest["architecture"])
    return f"at least {largest['training_mib']:,.0f} MiB to train the largest, {named}"


def print_description(file: "StudyFile", described: dict[str, Any], console: "Console") -> None:
    """Prints the description for people."""
    from nas.architecture import Architecture
    from nas.cli.tables import pairs, table
    from nas.formatting import one_line

    own = file.trial.body if file.trial else "given in Python, body="
    ordinary, size = described["seconds"] is not None, described["space_size"]
    unit = "architectures" if any("architecture" in sample for sample in described["samples"]) else "choices"
    steps = f"{file.search.trials} trials of {file.train.steps} steps"
    facts = {
        "study": file.name,
        "task": f"{file.task.kind}, {file.task.data}, context {file.task.context}" if ordinary else "",
        "body": "" if ordinary else f"{own} (its code is not run here)",
        "space": "continuous" if size is None else f"{size:,} {unit}",
        "objectives": ", ".join(f"{o.goal} {o.metric}" for o in file.objective_list()),
        "constraints": ", ".join(map(str, file.constraint_list())) or "none",
        "time": f"about {duration(described['seconds'])} (an estimate) to train {steps}; measuring comes on top"
        if ordinary
        else f"not estimated, for {steps}",
        "memory": _memory(described["largest"]),
    }
    console.print(pairs({name: text for name, text in facts.items() if text}))
    if described["too_long"]:
        console.print(described["too_long"])
    shown = table(*(["parameters"] if ordinary else []), f"some of its {unit}", numbers=("parameters",))
    for sample in described["samples"]:
        weights = [f"{sample['params']:,}"] if ordinary else []
        tried = sample.get("architecture")
        line = str(Architecture.model_validate(tried)) if tried else one_line(sample["parameters"])
        shown.add_row(*weights, line)
    console.print("", shown, sep="\n")
