"""`nas search`: run a study file, or go on with the study that it made."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.options import Json, Overrides, Preset, Verbose
from nas.errors import NothingFeasible, TooManyFailures, UsageError

if TYPE_CHECKING:
    from nas.running.driver import Launch, Outcome
    from nas.settings.study_file import StudyFile

Trials = Annotated[
    int | None, typer.Option("--trials", metavar="N", help="Trained trials in all, earlier launches counted.")
]
Time = Annotated[str | None, typer.Option("--time", metavar="30m", help="Save and stop after this long; exit code 0.")]
Cpus = Annotated[
    float | None, typer.Option("--cpus", metavar="N", help="CPUs to use; default: all that this process may use.")
]
Gpus = Annotated[float | None, typer.Option("--gpus", metavar="N", help="GPUs to use; default: all.")]
Executor = Annotated[str, typer.Option("--executor", help="ray: side by side in warm workers; serial: one by one.")]
MaxFailRate = Annotated[
    float, typer.Option("--max-fail-rate", metavar="F", help="Give up when more than this share of trials fails.")
]
MOST_PROCESSORS = 10_000
NoProgress = Annotated[bool, typer.Option("--no-progress", help="Plain lines instead of a live display.")]


def search(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A study file (TOML); `nas spaces` lists some.")],
    preset: Preset = None,
    overrides: Overrides = None,
    study: Annotated[str | None, typer.Option("--study", metavar="NAME", help="Another name for the study.")] = None,
    trials: Trials = None,
    time: Time = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
    executor: Executor = "ray",
    max_fail_rate: MaxFailRate = 0.5,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the space and an estimate; run nothing.")] = False,
    json: Json = False,
    no_progress: NoProgress = False,
    verbose: Verbose = 0,
) -> None:
    """Search a space of small Transformers and write the Pareto report.

    On a study that exists it goes on where that stopped, if the file is unchanged. Ctrl-C once: running trials finish;
    twice: they save and stop; three times: everything is killed (nothing is lost: `nas resume`).
    """
    from nas.settings import study_file

    name = [] if study is None else [f"name={study!r}"]
    settings = study_file.load(file, [*(overrides or []), *name], preset)
    launch = checked(str(file), trials, time, cpus, gpus, executor, max_fail_rate)
    if dry_run:
        _dry_run(settings, launch, json)
    else:
        run_and_report(settings, launch, json=json, live=not no_progress, verbose=verbose)


def checked(
    source: str,
    trials: int | None,
    time: str | None,
    cpus: float | None,
    gpus: float | None,
    executor: str,
    max_fail_rate: float,
    retry_failed: bool = False,
) -> "Launch":
    """The options as a Launch. Raises UsageError with the option's name."""
    from nas.running.driver import Launch
    from nas.toml_table import duration

    if trials is not None and trials <= 0:
        raise UsageError(f"--trials must be above 0, got {trials}", where="--trials")
    for option, value in (("--cpus", cpus), ("--gpus", gpus)):
        if value is not None and not 0 < value <= MOST_PROCESSORS:
            text = f"{option} must be above 0 and at most {MOST_PROCESSORS:,}, got {value:g}"
            raise UsageError(text, where=option, help="leave it out for all that this machine has")
    if executor not in ("ray", "serial"):
        raise UsageError(f"unknown executor '{executor}'", where="--executor", help="one of ray, serial")
    if not 0 <= max_fail_rate <= 1:
        raise UsageError(f"a share from 0 to 1, got {max_fail_rate:g}", where="--max-fail-rate")
    try:
        seconds = None if time is None else float(duration(time))
    except ValueError as error:
        raise UsageError(f"{error}, got '{time}'", where="--time") from None
    return Launch(
        executor="serial" if executor == "serial" else "ray",
        trials=trials,
        seconds=seconds,
        cpus=cpus,
        gpus=gpus,
        max_fail_rate=max_fail_rate,
        retry_failed=retry_failed,
        source=source,
        command=shlex.join(["nas", *sys.argv[1:]]),
    )


def run_and_report(
    file: "StudyFile", launch: "Launch", *, json: bool, live: bool, verbose: int, folder: Path | None = None
) -> None:
    """Run, write the report, say where it is. Exits with 3, 6, 130 or 143 where these are due.

    `folder`: where the study lives, when not under `runs/`.
    """
    from nas.cli.progress import Progress
    from nas.running import driver
    from nas.running.study_log import keep_log
    from nas.study.stored_study import runs_folder

    folder = folder or runs_folder() / file.name
    with keep_log(folder, verbose), Progress(file, json=json, live=live) as progress:
        outcome = driver.run(file, folder, launch, progress)
    _finish(outcome, json)


def _finish(outcome: "Outcome", json: bool) -> None:
    from nas import pareto
    from nas import report as reports
    from nas.cli.output import emit, people
    from nas.report.folder import report_folder
    from nas.running.budget import End

    record, console = outcome.study.record_for_report(), people()
    front = pareto.front_of(record)
    page = reports.write(record, report_folder(record.name)) if record.trained_count() else None
    ended = str(outcome.end or f"it was {'interrupted' if outcome.signal else 'told to stop'}; what ran is saved")
    if json:
        counts = {"trained": record.trained_count(), "budget": record.budget, "front": [t.number for t in front]}
        emit("result", study=record.name, end=ended, report=str(page) if page else None, **counts)
    stopped = sum(trial.trained and trial.state == "PRUNED" for trial in record.trials)
    early = f" ({stopped} stopped at a rung)" if stopped else ""
    summary = f"{record.trained_count()} of {record.budget} trials trained{early}, {len(front)} on the front: {ended}."
    console.print(summary, soft_wrap=True)
    if outcome.end is None:
        console.print(f"Go on with: nas resume {outcome.study.address}")
    if page:
        console.print(f"Report: {page}", soft_wrap=True)
    if outcome.signal is not None:
        raise typer.Exit(128 + outcome.signal)
    if outcome.end is End.FAILURES:
        failed = [t for t in record.trials if t.state == "FAIL"]
        reasons = ", ".join(sorted({t.reason for t in failed}))
        study = outcome.study.address
        help = f"nas status {study}   shows them\nnas resume {study} --retry failed   runs them once more"
        raise TooManyFailures(f"{len(failed)} trials failed ({reasons})", help=help)
    if outcome.end is not None and not front:
        limits = "; ".join(map(str, record.constraints)) or "none"
        raise NothingFeasible("no trained trial meets the constraints", detail=f"constraints: {limits}")


def _dry_run(file: "StudyFile", launch: "Launch", json: bool) -> None:
    from nas.api.checking import describe
    from nas.cli.check import print_description
    from nas.cli.output import emit
    from nas.cli.tables import answers
    from nas.running.placement import place

    side_by_side = 1 if launch.executor == "serial" else place(file, launch.cpus, launch.gpus).slots
    described = describe(file, side_by_side)
    if json:
        emit("result", **described)
    else:
        print_description(file, described, answers())
