"""`nas bench recipes` compares versions of the training recipe."""

from pathlib import Path
from typing import Annotated

import typer

from nas import bounds
from nas.cli.output import tell

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Study files (TOML) with a baseline.")]
Recipes = Annotated[str, typer.Option("--recipes", metavar="A,B", help="Versions of the recipe.")]
Steps = Annotated[
    int | None,
    typer.Option(
        "--steps", metavar="N", max=bounds.STEPS, min=10, help="Steps of the oldest recipe; default: the file's."
    ),
]
Seeds = Annotated[int, typer.Option("--seeds", metavar="N", max=bounds.RUNS, min=1, help="Trainings of each.")]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder for the result.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def recipes(
    study_files: Files,
    versions: Recipes = "1,2",
    steps: Steps = None,
    seeds: Seeds = 3,
    out: Out = Path("reports/benchmarks/recipes"),
    json: Json = False,
) -> None:
    """Compare versions of the training recipe.

    Shows the quality of each file's first baseline after equal seconds of training.
    """
    from nas.bench.recipes import Settings, claim, compare, parse_recipes, write
    from nas.cli import bench_tables
    from nas.cli.output import emit, people
    from nas.cli.tables import answers

    settings = Settings(tuple(study_files), parse_recipes(versions), seeds, steps)
    claim(out)
    console = people()
    result = compare(settings, lambda what: console.print(what))
    write(result, out)
    if json:
        emit("result", folder=str(out), **result)
        return
    answers().print(bench_tables.recipes(result))
    tell(str(out))
