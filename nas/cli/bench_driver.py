"""`nas bench driver` measures what a driver costs: a trial's overhead beside stock Ray Tune, or a proposal at scale."""

from pathlib import Path
from typing import Annotated

import typer

from nas import bounds
from nas.cli.options import STORAGE, Storage
from nas.cli.output import tell
from nas.errors import UsageError
from nas.formatting import number, percent

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder for the result.")]


def driver(
    trials: Annotated[int, typer.Option("--trials", metavar="N", max=bounds.TRIALS, help="Trials of each run.")] = 60,
    pairs: Annotated[
        int, typer.Option("--pairs", metavar="N", max=bounds.RUNS, min=1, help="Runs of ours, and as many of stock.")
    ] = 5,
    scale: Annotated[
        int | None,
        typer.Option(
            "--scale", metavar="N", max=bounds.TRIALS, min=1, help="Measure a proposal after N finished trials instead."
        ),
    ] = None,
    storage: Storage = None,
    out: Out = Path("reports/benchmarks/driver"),
    json: Json = False,
) -> None:
    """Compare the overhead of a trial with stock Ray Tune.

    Both run trials that do nothing; stock Ray Tune uses OptunaSearch. Takes about ten minutes on two idle CPUs.

    Ours are stored in SQLite, or in the database that --storage, NAS_STORAGE or your configuration names. Each run has
    a study of its own there, which is deleted after it.
    """
    from nas.bench.driver import Settings, claim, compare, write
    from nas.cli import bench_tables
    from nas.cli.output import emit, people
    from nas.cli.tables import answers
    from nas.study.database_place import database_place

    if scale is not None:
        if storage is not None:
            raise UsageError("--scale measures a study in SQLite", where=STORAGE, help="leave one of them out")
        _driver_at_scale(scale, json)
        return
    settings, place = Settings(trials, pairs), database_place(storage, STORAGE)
    claim(out)
    console = people()
    result = compare(settings, lambda what: console.print(what), place)
    write(result, out)
    if json:
        emit("result", folder=str(out), **result)
        return
    answers().print(bench_tables.overheads(result))
    tell(str(out))


def _driver_at_scale(trials: int, json: bool) -> None:
    """Measure what a proposal costs after so many trials; some minutes."""
    from nas.bench.scale import measure
    from nas.cli import bench_tables
    from nas.cli.output import emit, people
    from nas.cli.tables import answers

    console = people()
    result = measure(trials, lambda what: console.print(f"{what} ..."))
    if json:
        emit("result", **result)
        return
    answers().print(bench_tables.waits(result, trials))
    asks, idle = result["asks"], result["workers"]
    read, recover, first = (number(asks[f"{what}_seconds"]) for what in ("read", "recover", "first_ask"))
    tell(f"\n{number(result['database_mib'])} MiB: read in {read} s, recovered in {recover} s, first ask {first} s")
    tell(f"read again in {number(asks['read_again_seconds'] * 1e3)} ms")
    waiting, at_start = percent(idle["idle"], 1), percent(idle["idle_at_start"], 1)
    tell(f"{idle['workers']} workers wait {waiting} of their time ({at_start} at first),")
    tell(f"{percent(result['workers_stopping']['idle'], 1)} where stopped trials make way for others")
