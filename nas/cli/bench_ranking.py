"""`nas bench ranking` measures how short a trial may be; `nas bench growth`, whether small winners stay winners."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas import bounds
from nas.cli.output import tell

if TYPE_CHECKING:
    from nas.bench.kept_trainings import Candidate
    from nas.settings.study_file import StudyFile

File = Annotated[Path, typer.Argument(metavar="FILE", help="A study file (TOML); `nas spaces` lists some.")]
Study = Annotated[
    str | None, typer.Option("--study", metavar="STUDY", help="Take a stored study's trials, not draws of the space.")
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs", metavar="N", max=bounds.RUNS, min=1, help="Trainings side by side; default: as in a search."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The folder for trainings and results.")]
Architectures = Annotated[
    int, typer.Option("--architectures", metavar="N", max=bounds.RUNS, min=3, help="How many to train.")
]


def ranking(
    file: File,
    architectures: Architectures = 24,
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="N", max=bounds.RUNS, min=1, help="Trainings of each length.")
    ] = 2,
    steps: Annotated[
        str, typer.Option("--steps", metavar="1x,2x,4x", help="Lengths of training, as multiples of the file's steps.")
    ] = "1x,2x,4x",
    long_seeds: Annotated[
        int | None,
        typer.Option(
            "--long-seeds",
            metavar="N",
            max=bounds.RUNS,
            min=1,
            help="Trainings of each longer length; default: --seeds.",
        ),
    ] = None,
    study: Study = None,
    jobs: Jobs = None,
    out: Out = None,
    json: Json = False,
) -> None:
    """Measure how short a trial may be.

    Trains the same architectures for different lengths, and tells how far each moment of the shortest training ranks
    them as the longer trainings do. Started again, the command continues where it ended.
    """
    from nas.bench.ranking import FOLDER, Settings, claim, compare, parse_factors
    from nas.cli import bench_tables
    from nas.cli.output import emit, people
    from nas.cli.tables import answers
    from nas.settings import study_file

    factors, loaded = parse_factors(steps), study_file.load(file)
    folder, console = out or FOLDER / loaded.name, people()
    settings = Settings(loaded, _candidates(loaded, architectures, study), seeds, factors, long_seeds)
    claim(folder)
    result = compare(settings, folder, jobs, lambda what: console.print(what, soft_wrap=True))
    if json:
        emit("result", folder=str(folder), **result)
        return
    answers().print(bench_tables.ranking(result))
    tell(str(folder))


def growth(
    file: File,
    architectures: Architectures = 12,
    times: Annotated[
        float, typer.Option("--times", metavar="F", max=1000, min=2, help="How many times the parameters.")
    ] = 4,
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="N", max=bounds.RUNS, min=1, help="Trainings of each architecture.")
    ] = 1,
    steps: Annotated[
        str, typer.Option("--steps", metavar="1x", help="How long larger forms train: a multiple of the file's steps.")
    ] = "1x",
    study: Study = None,
    jobs: Jobs = None,
    out: Out = None,
    json: Json = False,
) -> None:
    """Measure whether small winners stay winners.

    Trains architectures as they are and with several times their parameters: wider and deeper. Started again, the
    command continues where it ended.
    """
    from nas.bench.growth import FOLDER, Settings, claim, compare
    from nas.bench.ranking import parse_factors
    from nas.cli import bench_tables
    from nas.cli.output import emit, people
    from nas.cli.tables import answers
    from nas.errors import UsageError
    from nas.settings import study_file

    factors, loaded = parse_factors(steps), study_file.load(file)
    if len(factors) > 1:
        raise UsageError(f"expected one length, got '{steps}'", where="--steps", help="for example 2x")
    folder, console = out or FOLDER / f"{loaded.name}-{times:g}x", people()
    settings = Settings(loaded, _candidates(loaded, architectures, study), times, seeds, factors[0])
    claim(folder)
    result = compare(settings, folder, jobs, lambda what: console.print(what, soft_wrap=True))
    if json:
        emit("result", folder=str(folder), **result)
        return
    answers().print(bench_tables.grown(result))
    tell(str(folder))


def _candidates(file: "StudyFile", count: int, study: str | None) -> "list[Candidate]":
    """Returns the trials of a study, or draws of the file's space."""
    from nas.bench.kept_trainings import drawn, of_study, quality_of
    from nas.study import open_study

    objective = quality_of(file)
    return of_study(open_study(study).record(), count, objective) if study else drawn(file, count)
