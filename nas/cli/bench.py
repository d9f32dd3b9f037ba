"""`nas bench`: measurements against peers, one subcommand each."""

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
