"""`nas bench`: measurements against peers, one subcommand each."""

from pathlib import Path
from typing import Annotated

import typer

bench = typer.Typer(no_args_is_help=True, help="Measure nas against its peers on this machine.")


@bench.command("driver")
def driver(
    trials: Annotated[int, typer.Option("--trials", metavar="N", help="Trials of the long run.")] = 40,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Seconds of overhead a trial, beside stock Ray Tune with OptunaSearch; about four minutes."""
    from nas.bench.driver import compare
    from nas.cli.output import emit, people

    console = people()
    console.print("Four runs of trivial trials, ours and stock, short and long ...")
    result = compare(trials)
    if json:
        emit("result", **result)
        return
    for who in ("ours", "stock"):
        each, startup = result[f"{who}_seconds_per_trial"], result[f"{who}_startup_seconds"]
        typer.echo(f"{who:6} {each:7.3f} s a trial   {startup:6.1f} s to start")
    typer.echo(f"ratio  {result['ratio']:7.1f}")


@bench.command("latency")
def latency(
    architectures: Annotated[
        int, typer.Option("--architectures", metavar="N", min=3, help="How many to measure.")
    ] = 12,
    trainers: Annotated[int, typer.Option("--trainers", metavar="N", min=1, help="Processes that train beside.")] = 2,
    file: Annotated[
        Path, typer.Option("--file", metavar="FILE", help="The study file whose space they are drawn from.")
    ] = Path("search_spaces/tiny_lm.toml"),
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Test and retest of measuring: idle, then while others train on the same CPU; about a minute."""
    from nas import study_file
    from nas.bench.latency import TIMED, retest
    from nas.cli.output import emit

    result = retest(study_file.load(file), architectures, trainers)
    if json:
        emit("result", **result)
        return
    for name in TIMED:
        rank, off = result[f"{name}_spearman"], result[f"{name}_median_difference"]
        typer.echo(f"{name:20} Spearman {rank:.3f}   median difference {off:.1%}")
    typer.echo(f"contended: {result['contended_idle']:.0%} idle, {result['contended_busy']:.0%} beside trainers")
