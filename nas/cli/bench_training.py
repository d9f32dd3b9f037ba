"""`nas bench training` compares our training with AdamW as nanoGPT uses it; `nas bench threads`, ways to use CPUs."""

from pathlib import Path
from typing import Annotated

import typer

from nas import bounds
from nas.cli.output import tell

Steps = Annotated[int, typer.Option("--steps", metavar="N", max=bounds.STEPS, min=1, help="Steps of AdamW.")]
ExactSteps = Annotated[
    int,
    typer.Option("--exact-steps", metavar="N", max=bounds.STEPS, min=1, help="Our steps on nanoGPT's architecture."),
]
FreeSteps = Annotated[
    int, typer.Option("--free-steps", metavar="N", max=bounds.STEPS, min=1, help="Our steps on our architecture.")
]
Seeds = Annotated[int, typer.Option("--seeds", metavar="N", max=bounds.RUNS, min=1, help="Trainings of each.")]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder for the result.")]
Seconds = Annotated[float, typer.Option("--seconds", metavar="S", max=3600, min=0.1, help="Seconds of each training.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def training(
    steps: Steps = 2000,
    exact_steps: ExactSteps = 520,
    free_steps: FreeSteps = 320,
    seeds: Seeds = 3,
    out: Out = Path("reports/benchmarks/training"),
    json: Json = False,
) -> None:
    """Compare our training with AdamW in nanoGPT's setting.

    Shows the share of AdamW's time until ours has the loss that AdamW ends with. Takes about half an hour.
    """
    from nas.bench.training import Settings, claim, compare, write
    from nas.cli import bench_tables
    from nas.cli.output import emit, people
    from nas.cli.tables import answers

    settings = Settings(seeds, steps, exact_steps, free_steps)
    claim(out)
    console = people()
    result = compare(settings, lambda what: console.print(f"{what} ..."))
    write(result, out)
    if json:
        emit("result", folder=str(out), **result)
        return
    answers().print(bench_tables.trainings(result), "", bench_tables.training_speed(result), sep="\n")
    if result["speed"]["contended"]:
        console.print("the speed was measured beside other load: measure again on an idle machine")
    tell(str(out))


def threads(seconds: Seconds = 10.0, json: Json = False) -> None:
    """Compare two trials at once with two CPUs for one trial.

    Shows the steps a second of all trials together. Takes about three minutes, and needs two idle CPUs.
    """
    from nas.bench.threads import Settings, compare
    from nas.cli import bench_tables
    from nas.cli.output import emit, people
    from nas.cli.tables import answers

    console = people()
    result = compare(Settings(seconds), lambda what: console.print(what))
    if json:
        emit("result", **result)
    else:
        answers().print(bench_tables.threads(result))
