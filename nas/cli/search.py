"""`nas search` runs a study file, or continues the study that it made."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.options import FOLDER, STORAGE, Folder, Json, Overrides, Preset, Storage, Verbose, naming_options
from nas.folders import require_current_folder

if TYPE_CHECKING:
    from nas.running.driver import Outcome
    from nas.running.launch import Launch
    from nas.settings.study_file import StudyFile
    from nas.study.database_place import DatabasePlace
    from nas.study.stored_study import StoredStudy

Trials = Annotated[
    int | None, typer.Option("--trials", metavar="N", help="Trained trials in all, earlier launches counted.")
]
Time = Annotated[str | None, typer.Option("--time", metavar="30m", help="Save and stop after this long; exit code 0.")]
Cpus = Annotated[
    float | None, typer.Option("--cpus", metavar="N", help="CPUs to use; default: all that this process may use.")
]
Gpus = Annotated[float | None, typer.Option("--gpus", metavar="N", help="GPUs to use; default: all.")]
Executor = Annotated[
    str, typer.Option("--executor", metavar="ray|serial", help="ray: side by side in warm workers; serial: one by one.")
]
RayAddress = Annotated[
    str | None,
    typer.Option("--ray-address", metavar="HOST:PORT|auto", help="Join a Ray cluster; default: this machine alone."),
]
MaxFailRate = Annotated[
    float, typer.Option("--max-fail-rate", metavar="F", help="Give up when more than this share of trials fails.")
]
NoProgress = Annotated[bool, typer.Option("--no-progress", help="Plain lines instead of a live display.")]


def search(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A study file (TOML); `nas spaces` lists some.")],
    preset: Preset = None,
    overrides: Overrides = None,
    study: Annotated[str | None, typer.Option("--study", metavar="NAME", help="Another name for the study.")] = None,
    storage: Storage = None,
    folder: Folder = None,
    trials: Trials = None,
    time: Time = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
    executor: Executor = "ray",
    ray_address: RayAddress = None,
    max_fail_rate: MaxFailRate = 0.5,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the space and an estimate; run nothing.")] = False,
    json: Json = False,
    no_progress: NoProgress = False,
    verbose: Verbose = 0,
) -> None:
    """Search a study's space and write the Pareto report.

    If the study exists and the file is unchanged, the search continues it. The first Ctrl-C lets the running trials
    finish. The second makes them save and stop. The third kills everything; `nas resume` continues from the last
    checkpoints.

    Exit codes: 0; 1 failed; 2 wrong options or file; 3 no trial within the limits; 4 conflict with what is stored; 5
    Ray or disk out of reach; 6 too many failures; 129, 130 and 143 interrupted, state saved.
    """
    require_current_folder()
    from nas.settings import study_file
    from nas.study.database_place import database_place

    place = database_place(storage, STORAGE)
    name = [] if study is None else [f"name={study!r}"]
    settings = study_file.load(file, [*(overrides or []), *name], preset)
    launch = launch_of(str(file), trials, time, cpus, gpus, executor, max_fail_rate, ray_address, folder=folder)
    if dry_run:
        _dry_run(settings, launch, json)
    else:
        run_and_report(settings, launch, json=json, live=not no_progress, verbose=verbose, place=place)


def launch_of(
    source: str,
    trials: int | None,
    time: str | None,
    cpus: float | None,
    gpus: float | None,
    executor: str,
    max_fail_rate: float,
    ray_address: str | None = None,
    retry_failed: bool = False,
    *,
    folder: str | None = None,
) -> "Launch":
    """Returns the options as a Launch. Raises UsageError with the option's name."""
    from nas.api.launching import checked
    from nas.study.run_folders import folder_place

    command = shlex.join(["nas", *sys.argv[1:]])
    with naming_options():
        return checked(
            trials,
            time,
            cpus,
            gpus,
            executor,
            max_fail_rate,
            ray_address=ray_address,
            retry_failed=retry_failed,
            source=source,
            command=command,
            folder=folder_place(folder, FOLDER),
        )


def run_and_report(
    file: "StudyFile",
    launch: "Launch",
    *,
    json: bool,
    live: bool,
    verbose: int,
    folder: Path | None = None,
    place: "DatabasePlace | None" = None,
) -> None:
    """Runs the search, writes the report and prints its path. Exits with 3, 6, 129, 130 or 143 where these apply.

    `folder` is the study's folder, when it is not under `runs/`; `place` is its database, when that is on a server.
    """
    from nas.api.searching import run
    from nas.cli.output import logged
    from nas.cli.progress import Progress
    from nas.cli.streams import go_on_without
    from nas.running.study_log import keep_log
    from nas.study.stored_study import runs_folder

    folder, pages = folder or runs_folder() / file.name, list[Path | None]()
    go_on_without()
    with logged(verbose), keep_log(folder), Progress(file, json=json, live=live) as progress:
        # Of drivers that end together, one writes the report; another does if that one dies.
        outcome = run(
            file, folder, launch, progress, None, place, at_end=lambda study: pages.append(written_report(study))
        )
    if outcome.closed and (not pages or outcome.unconfirmed):  # it was interrupted
        pages.append(written_report(outcome.study))
    _finish(outcome, pages[-1] if pages else None, json)


def written_report(study: "StoredStudy") -> Path | None:
    """Writes the report and returns its path; None where no trial is trained yet."""
    from nas import report as reports
    from nas.report.folder import report_folder

    record = study.record_for_report()
    return reports.write(record, report_folder(record.name)) if record.trained_count() else None


def _finish(outcome: "Outcome", page: Path | None, json: bool) -> None:
    from nas import pareto
    from nas.api.searching import refuse_bad_end
    from nas.cli.output import emit, people
    from nas.report.health import health_of

    record, console = outcome.study.record(), people()
    front = pareto.front_of(record)
    ended = str(
        outcome.end or f"it was {'interrupted' if outcome.signal else 'told to stop'}; running trials are saved"
    )
    if json:
        counts = {"trained": record.trained_count(), "budget": record.budget, "front": [t.number for t in front]}
        emit("result", study=record.name, end=ended, report=str(page) if page else None, **counts)
    stopped = sum(trial.trained and trial.state == "PRUNED" for trial in record.trials)
    early = f" ({stopped} stopped at a rung)" if stopped else ""
    summary = f"{record.trained_count()} of {record.budget} trials trained{early}, {len(front)} on the front: {ended}."
    console.print(summary, soft_wrap=True)
    for line in health_of(record).shortly() if record.trained_count() else ():
        console.print(line, soft_wrap=True)
    if outcome.end is None:
        console.print(f"Continue with: {record.go_on(outcome.study.in_commands)}", soft_wrap=True)
    elif outcome.unconfirmed:
        again = record.go_on(outcome.study.in_commands)
        console.print(f"It was stopped while it confirmed its front. Continue with: {again}", soft_wrap=True)
    if page:
        console.print(f"Report: {page}", soft_wrap=True)
    elif not outcome.closed:
        console.print("Another driver of the study writes the report.")
    if outcome.signal is not None:
        raise typer.Exit(128 + outcome.signal)
    refuse_bad_end(outcome)


def _dry_run(file: "StudyFile", launch: "Launch", json: bool) -> None:
    from nas.api.checking import describe
    from nas.cli.check import print_description
    from nas.cli.output import emit
    from nas.cli.tables import answers
    from nas.running.placed import placed

    with placed(file, launch.cpus, launch.gpus, launch.ray_address, lambda event: None) as placement:
        described = describe(file, 1 if launch.executor == "serial" else placement.slots)
    if json:
        emit("result", **described)
    else:
        print_description(file, described, answers())
