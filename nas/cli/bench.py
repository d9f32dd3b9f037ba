"""`nas bench`: measurements against peers, one subcommand each."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

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


@bench.command("attention")
def attention(
    kinds: Annotated[
        str | None,
        typer.Option("--kinds", metavar="A,B", help="Which to measure, as in 'softmax, window window=256'; else all."),
    ] = None,
    contexts: Annotated[
        str, typer.Option("--contexts", metavar="128,...", help="Tokens of a sequence.")
    ] = "128,256,512,1024,2048,4096",
    hidden: Annotated[int, typer.Option("--hidden", metavar="N", min=1, help="Hidden size.")] = 128,
    heads: Annotated[int, typer.Option("--heads", metavar="N", min=1, help="Of every kind that has heads.")] = 4,
    threads: Annotated[int, typer.Option("--threads", metavar="N", min=1, help="CPU threads.")] = 1,
    repeats: Annotated[int, typer.Option("--repeats", metavar="N", min=1, help="The most readings of a time.")] = 200,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where to write table and figure.")] = Path(
        "reports/benchmarks/attention"
    ),
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Time, memory and decode state of every kind of attention against the context; about five minutes."""
    from nas.bench.attention import Settings, check_writable, compare, parse_contexts, parse_kinds, write
    from nas.cli.output import emit, people
    from nas.cli.tables import answers

    settings = Settings(parse_kinds(kinds, hidden, heads), parse_contexts(contexts), hidden, threads, repeats)
    check_writable(out)
    console = people()
    result = compare(settings, lambda what: console.print(f"{what} ..."))
    write(result, out)
    if json:
        emit("result", folder=str(out), **result)
        return
    answers().print(_costs(result), "", _growth(result), sep="\n")
    for row in result["rows"]:
        if row["skipped"]:
            console.print(f"{row['kind']} at {row['context']:,}: {row['skipped']}", markup=False)
    if result["contended"]:
        console.print(f"{result['contended']:.0%} of the rounds ran beside other load: measure again when it is idle")
    typer.echo(out)


def _costs(result: dict[str, Any]) -> "Table":
    """At the longest context."""
    from nas.cli.tables import number, table

    longest = max(result["settings"]["contexts"])
    columns = {
        "forward_ms": "forward\nms",
        "training_ms": "training\nms",
        "decode_ms": "decode\nms",
        "peak_training_mib": "training\nMiB",
        "decode_state_bytes": "state\nbytes",
    }
    shown = table(f"at {longest:,} tokens", *columns.values(), numbers=tuple(columns.values()))
    for row in result["rows"]:
        if row["context"] == longest:
            figures = [row[column] for column in columns]
            shown.add_row(row["kind"], *("–" if figure is None else number(figure) for figure in figures))
    return shown


def _growth(result: dict[str, Any]) -> "Table":
    """The exponents of time over context, and two ratios."""
    from nas.bench.scaling import FIT_FROM, OPERATIONS, SHORT
    from nas.cli.tables import table

    ratios = {
        f"training_over_softmax_{SHORT}": f"training\n/softmax\nat {SHORT}",
        "decode_flatness": "decode\nlongest\n/shortest",
    }
    columns = [*(f"{operation}\nexponent" for operation in OPERATIONS), *ratios.values()]
    shown = table(f"from {FIT_FROM:,} tokens on", *columns, numbers=tuple(columns))
    for kind in result["settings"]["kinds"]:
        exponents = [result["exponents"].get(kind, {}).get(operation) for operation in OPERATIONS]
        figures = [*exponents, *(result[ratio].get(kind) for ratio in ratios)]
        shown.add_row(kind, *("–" if figure is None else f"{figure:.2f}" for figure in figures))
    return shown
