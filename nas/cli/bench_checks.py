"""`nas bench bounds` counts how often bounds are wrong; `nas bench stopping` replays what stopping saves and loses."""

from pathlib import Path
from typing import Annotated

import typer

from nas import bounds as most
from nas.cli.output import tell

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def bounds(
    table: Annotated[
        list[str] | None,
        typer.Option("--table", metavar="NAME", help="A table of a package, such as nasbench201:cifar10; several."),
    ] = None,
    trials: Annotated[
        int, typer.Option("--trials", metavar="N", max=most.TRIALS, min=10, help="Trainings of a run.")
    ] = 64,
    seeds: Annotated[int, typer.Option("--seeds", metavar="N", max=most.RUNS, min=1, help="Runs of a table.")] = 12,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", metavar="N", max=most.RUNS, min=1, help="Processes to use; default: one a CPU."),
    ] = None,
    json: Json = False,
) -> None:
    """Count how often trials beat the bound that would skip them.

    Replays searches of tabulated benchmarks in which everything is trained, and holds today's bound against that of
    version 0.2. Without --table: all three tables of NAS-Bench-201. Takes about ten minutes.
    """
    from nas.bench.skip_bounds import Tally, compare
    from nas.bench.table_input import NAMED, open_table
    from nas.cli.output import emit, people
    from nas.measure import available_cpus

    tables = [open_table(None, name, None, None, None) for name in dict.fromkeys(table or NAMED)]
    result = compare(tables, seeds, trials, jobs or available_cpus(), people().print)
    if json:
        emit("result", **result)
        return
    for who in ("earlier", "today"):
        tell(f"{who:8} {Tally(**result['all'][who])}")


def stopping(
    recordings: Annotated[
        list[Path] | None, typer.Argument(metavar="RECORDING", help="Files of recorded searches.")
    ] = None,
    record: Annotated[
        list[str] | None,
        typer.Option("--record", metavar="STUDY", help="Record this stored study into --out; several."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder of recordings.")] = Path(
        "reports/benchmarks/stopping"
    ),
    json: Json = False,
) -> None:
    """Replay what stopping at rungs saves and loses.

    A recording holds the rungs of a search that ran with `-s search.stopping=false -s search.skip=false`. Without
    RECORDING, all recordings in --out are replayed.
    """
    from nas.api.study import open_study
    from nas.bench.stopping import judge, read, record_of, sentence, write
    from nas.cli.output import emit
    from nas.errors import UsageError

    for name in record or ():
        study = open_study(name)
        write(record_of(study.record()), out / f"{study.name}.json")
    paths = recordings or sorted(out.glob("*.json"))
    if not paths:
        raise UsageError("there is no recording", where=str(out), help="--record STUDY   makes one")
    results = [judge(read(path)) for path in paths]
    if json:
        emit("result", recordings=results)
        return
    for told in results:
        tell(sentence(told))
