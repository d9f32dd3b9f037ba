"""`nas bench latency` measures how well latencies repeat, and whether their intervals are honest."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nas import bounds
from nas.cli.output import tell
from nas.formatting import duration, fixed, percent

Architectures = Annotated[
    int, typer.Option("--architectures", metavar="N", max=bounds.RUNS, min=3, help="How many to measure.")
]
Trainers = Annotated[
    int, typer.Option("--trainers", metavar="N", max=bounds.RUNS, min=0, help="Processes that train meanwhile.")
]
Rounds = Annotated[
    int | None,
    typer.Option("--rounds", metavar="N", max=bounds.RUNS, min=6, help="Measure so often, and test the intervals."),
]
Minutes = Annotated[
    float,
    typer.Option("--minutes", metavar="M", max=10_000.0, min=0.0, help="Spread the rounds over so many minutes."),
]
File = Annotated[Path, typer.Option("--file", metavar="FILE", help="The study file from whose space they are drawn.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def latency(
    architectures: Architectures = 12,
    trainers: Trainers = 2,
    rounds: Rounds = None,
    minutes: Minutes = 60.0,
    file: File = Path("search_spaces/tiny_lm.toml"),
    json: Json = False,
) -> None:
    """Measure how well latencies repeat.

    Each is measured twice: on an idle machine, and while other processes train on the same CPU. Takes about a minute.
    With --rounds, each is measured so often, every second time beside trainers, and the intervals are tested.
    """
    from nas.bench.latency import retest
    from nas.bench.latency_coverage import coverage
    from nas.cli.output import emit, people
    from nas.settings import study_file

    settings = study_file.load(file)
    if rounds is None:
        result: dict[str, Any] = dict(retest(settings, architectures, trainers))
    else:
        console = people()
        result = coverage(settings, architectures, rounds, minutes, trainers, lambda what: console.print(what))
    if json:
        emit("result", **result)
    elif rounds is None:
        _print_retest(result)
    else:
        _print_coverage(result)


def _print_retest(result: dict[str, Any]) -> None:
    from nas.bench.latency import TIMED

    for name in (name for name in TIMED if f"{name}_spearman" in result):
        rank, off = result[f"{name}_spearman"], result[f"{name}_median_difference"]
        tell(f"{name:20} Spearman {fixed(rank, 3)}   median difference {percent(off, 1)}")
    if "parts_median_difference" in result:
        median, most = (percent(result[f"parts_{which}_difference"], 1) for which in ("median", "most"))
        tell(f"prefill and steps beside whole answers: median difference {median}, at most {most}")
    tell(f"contended: {percent(result['contended_idle'])} idle, {percent(result['contended_busy'])} beside trainers")
    took = {"idle": "idle", "busy": "beside trainers", "disturbed": "at the end of a search on a busy machine"}
    told = ", ".join(f"{fixed(result[f'seconds_{kind}'], 2)} {words}" for kind, words in took.items())
    tell(f"seconds a measurement (median): {told}")


def _print_coverage(result: dict[str, Any]) -> None:
    from nas.bench.latency import TIMED

    for name in (name for name in TIMED if f"{name}_coverage" in result):
        found = {
            key: result[f"{name}_{key}"] for key in ("coverage", "half_width", "within_coverage", "busy_difference")
        }
        tell(
            f"{name:20} {percent(found['coverage'], 1)} of {result[f'{name}_intervals']:,.0f} intervals between runs "
            f"cover the grand median; ±{percent(found['half_width'], 1)} wide (median)"
        )
        tell(
            f"{'':20} {percent(found['within_coverage'], 1)} of the intervals within a run do; "
            f"beside trainers {percent(found['busy_difference'], 1)} off"
        )
    missed = ", ".join(f"{name} {percent(share)}" for name, share in result["conditions"].items())
    tell(f"conditions not met: {missed or 'none'}")
    tell(f"a measurement took {duration(result['seconds'])} (median), {duration(result['most_seconds'])} at most")
