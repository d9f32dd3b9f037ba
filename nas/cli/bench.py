"""`nas bench` runs measurements against peers, one subcommand each."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from nas import bounds
from nas.cli.bench_checks import bounds as skip_bounds
from nas.cli.bench_checks import stopping
from nas.cli.bench_driver import driver
from nas.cli.bench_latency import latency
from nas.cli.bench_ranking import growth, ranking
from nas.cli.bench_recipes import recipes
from nas.cli.bench_training import threads, training
from nas.cli.output import tell
from nas.folders import require_current_folder
from nas.formatting import percent

bench = typer.Typer(
    no_args_is_help=True, callback=require_current_folder, help="Measure nas against its peers on this machine."
)

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Hidden = Annotated[int, typer.Option("--hidden", metavar="N", max=bounds.HIDDEN, min=1, help="Hidden size.")]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder for table and figure.")]
Vocabulary = Annotated[
    int, typer.Option("--vocabulary", metavar="N", max=bounds.VOCABULARY, help="Different keys and values.")
]
Context = Annotated[int, typer.Option("--context", metavar="N", max=bounds.CONTEXT, help="Tokens of an example.")]
Pairs = Annotated[int, typer.Option("--pairs", metavar="N", max=bounds.CONTEXT, help="Pairs to remember.")]
Steps = Annotated[int, typer.Option("--steps", metavar="N", max=bounds.STEPS, min=1, help="Steps of each training.")]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", metavar="N", max=bounds.RUNS, min=1, help="Processes to use; default: one a CPU."),
]
Params = Annotated[str | None, typer.Option("--params", metavar="A,B", help="The columns that make a configuration.")]
Objectives = Annotated[
    str | None,
    typer.Option("--objectives", metavar="A:min,B:max", help="Columns and goals; :cheap: needs no training."),
]
Trainings = Annotated[int, typer.Option("--trials", metavar="N", max=bounds.TRIALS, min=1, help="Trainings of a run.")]
RESULTS = Path("reports/benchmarks")
for command in (driver, latency, training, recipes, threads, ranking, growth, stopping):
    bench.command(command.__name__)(command)
bench.command("bounds")(skip_bounds)


@bench.command("attention")
def attention(
    kinds: Annotated[
        str | None,
        typer.Option("--kinds", metavar="A,B", help="Kinds to measure, as in 'softmax, window window=256'."),
    ] = None,
    contexts: Annotated[
        str, typer.Option("--contexts", metavar="128,...", help="Tokens of a sequence.")
    ] = "128,256,512,1024,2048,4096",
    hidden: Hidden = 128,
    heads: Annotated[
        int, typer.Option("--heads", metavar="N", max=bounds.HEADS, min=1, help="Heads of every kind that has them.")
    ] = 4,
    threads: Annotated[int, typer.Option("--threads", metavar="N", max=bounds.THREADS, min=1, help="CPU threads.")] = 1,
    repeats: Annotated[
        int, typer.Option("--repeats", metavar="N", max=bounds.REPEATS, min=1, help="The most readings of each time.")
    ] = 200,
    out: Out = RESULTS / "attention",
    json: Json = False,
) -> None:
    """Measure every kind of attention over the context.

    Measures time, memory and decode state at each length, for a table and a figure. Takes about five minutes.
    """
    from nas.bench.attention import Settings, claim, compare, parse_contexts, parse_kinds, write
    from nas.cli import bench_tables
    from nas.cli.output import emit, people
    from nas.cli.tables import answers

    settings = Settings(parse_kinds(kinds, hidden, heads), parse_contexts(contexts), hidden, threads, repeats)
    claim(out)
    console = people()
    result = compare(settings, lambda what: console.print(f"{what} ..."))
    write(result, out)
    if json:
        emit("result", folder=str(out), **result)
        return
    answers().print(bench_tables.costs(result), "", bench_tables.growth(result), sep="\n")
    for row in result["rows"]:
        if row["skipped"]:
            console.print(f"{row['kind']} at {row['context']:,}: {row['skipped']}")
    if result["contended"]:
        console.print(
            f"{percent(result['contended'])} of the rounds ran beside other load: measure again on an idle machine"
        )
    tell(str(out))


@bench.command("recall")
def recall(
    kinds: Annotated[
        str | None,
        typer.Option("--kinds", metavar="A,B", help="Kinds to measure, as in 'softmax, window window=8'."),
    ] = None,
    vocabulary: Vocabulary = 256,
    context: Context = 64,
    pairs: Pairs = 8,
    hidden: Hidden = 64,
    steps: Steps = 2000,
    optimiser: Annotated[Literal["muon", "adamw"], typer.Option("--optimiser", help="The optimiser.")] = "muon",
    rates: Annotated[str, typer.Option("--rates", metavar="A,B", help="Learning rates; the best counts.")] = "0.02",
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="N", max=bounds.RUNS, min=1, help="Trainings at each rate.")
    ] = 3,
    random_gaps: Annotated[
        bool, typer.Option("--random-gaps", help="Random tokens between the queries, instead of a blank.")
    ] = False,
    jobs: Jobs = None,
    out: Out = RESULTS / "recall",
    json: Json = False,
) -> None:
    """Measure associative recall of each kind of attention.

    Compares accuracy with the decode state. Takes about an hour. Started again, it continues where it ended.
    """
    from nas.bench.attention import parse_kinds
    from nas.bench.recall import KINDS, Settings, claim, compare, parse_rates, task_of
    from nas.cli import bench_tables
    from nas.cli.output import emit, people
    from nas.cli.tables import answers
    from nas.measure import available_cpus

    task = task_of(vocabulary, context, pairs, random_gaps)
    found = parse_kinds(kinds or KINDS, hidden, 1)
    settings = Settings(found, task, hidden, steps, optimiser, parse_rates(rates), seeds)
    claim(out)
    console = people()
    result = compare(settings, jobs or available_cpus(), out, console.print)
    if json:
        emit("result", folder=str(out), **result)
        return
    answers().print(bench_tables.recall(result))
    tell(str(out))


@bench.command("search")
def search(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A study file (TOML); `nas spaces` lists some.")],
    minutes: Annotated[float, typer.Option("--minutes", metavar="M", help="Wall-clock time of each run.")],
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="K", max=bounds.RUNS, help="Runs of each, with the seeds 0, 1, ...")
    ],
    rows: Annotated[
        bool,
        typer.Option("--rows", help="Add our driver with other samplers, and peers that stop trainings early."),
    ] = False,
    only: Annotated[
        str | None, typer.Option("--only", metavar="A,B", help="Of --rows, run these beside ours and stock.")
    ] = None,
    registry: Annotated[
        str | None,
        typer.Option("--registry", metavar="DIR", help="A clone of optunahub-registry, or online."),
    ] = None,
    neps: Annotated[
        str | None, typer.Option("--neps", metavar="PYTHON", help="A Python with neural-pipeline-search, for PriMO.")
    ] = None,
    retrain_seeds: Annotated[
        int,
        typer.Option(
            "--retrain-seeds", metavar="N", max=bounds.RUNS, help="Trainings of each architecture after the runs."
        ),
    ] = 1,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", metavar="N", max=bounds.RUNS, help="Trainings side by side; default: as in the runs."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The folder for runs and results.")] = None,
    json: Json = False,
) -> None:
    """Compare whole searches with stock Ray Tune.

    Both search the same study for the same time; stock Ray Tune uses OptunaSearch. Started again, the command continues
    where it ended.
    """
    from nas.bench.search import Settings, compare, default_folder
    from nas.cli import bench_tables
    from nas.cli.output import emit, people
    from nas.cli.tables import answers

    named = tuple(name.strip() for name in only.split(",")) if only else ()
    settings = Settings(file, minutes, seeds, rows or bool(named), retrain_seeds, jobs, registry, neps, named)
    settings.check()
    folder, console = out or default_folder(settings), people()
    result = compare(settings, folder, lambda what: console.print(f"{what} ..."))
    if json:
        emit("result", folder=str(folder), **result)
        return
    answers().print(bench_tables.searches(result))
    if result["contended"]:
        console.print(
            f"{percent(result['contended'])} was measured again beside other load: repeat it on an idle machine"
        )
    tell(str(folder))


@bench.command("samplers")
def samplers(
    file: Annotated[
        Path | None, typer.Argument(metavar="TABLE", help="A CSV or Parquet file: one row a training.")
    ] = None,
    table: Annotated[
        str | None, typer.Option("--table", metavar="NAME", help="A table of a package instead: nasbench201:cifar10.")
    ] = None,
    params: Params = None,
    objectives: Objectives = None,
    cost: Annotated[str | None, typer.Option("--cost", metavar="COLUMN", help="The column of costs.")] = None,
    sample: Annotated[
        int | None,
        typer.Option("--sample", metavar="N", min=2, help="Keep N configurations of the table, drawn at random."),
    ] = None,
    names: Annotated[
        str, typer.Option("--samplers", metavar="A,B", help="Samplers to compare.")
    ] = "pareto,gp,tpe,nsga2,random",
    trials: Trainings = 100,
    seeds: Annotated[int, typer.Option("--seeds", metavar="N", max=bounds.RUNS, min=1, help="Runs of a sampler.")] = 10,
    jobs: Jobs = None,
    json: Json = False,
) -> None:
    """Compare samplers on a tabulated benchmark.

    Shows the share of the front's hypervolume that each reaches after so many trainings. Takes some minutes.
    """
    from nas.bench.samplers import compare, parse_samplers
    from nas.bench.table_input import open_table
    from nas.cli import bench_tables
    from nas.cli.output import emit, people
    from nas.cli.tables import answers
    from nas.measure import available_cpus

    wanted = parse_samplers(names)
    opened = open_table(file, table, params, objectives, cost, sample)
    console = people()
    result = compare(opened, wanted, seeds, trials, jobs or available_cpus(), console.print)
    for name, runs in result["cut_short"].items():
        if runs:
            why = "since most of what it proposed is not in the table"
            console.print(f"{name}: {runs} of {seeds} runs ended early, {why}")
    if json:
        emit("result", **result)
        return
    tell(f"{opened.name}: {result['configurations']:,} of {result['space_size']:,} configurations have results")
    if result["sparse"]:
        tell("proposals that it lacks count as the nearest configuration that is not trained yet")
    tell(f"share of the front's hypervolume, mean ± standard deviation (seeds: {seeds})\n")
    answers().print(bench_tables.shares(result))
