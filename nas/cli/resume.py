"""`nas resume` continues a stored study, however its last driver ended."""

from typing import Annotated

import typer

from nas.cli.options import STORAGE, Folder, Json, Storage, StudyName, Verbose
from nas.cli.search import (
    Cpus,
    Executor,
    Gpus,
    MaxFailRate,
    NoProgress,
    RayAddress,
    Time,
    Trials,
    launch_of,
    run_and_report,
)
from nas.errors import UsageError
from nas.folders import require_current_folder


def resume(
    study: StudyName,
    storage: Storage = None,
    folder: Folder = None,
    trials: Trials = None,
    retry: Annotated[
        str | None, typer.Option("--retry", metavar="failed", help="First run the failed trials once more.")
    ] = None,
    time: Time = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
    executor: Executor = "ray",
    ray_address: RayAddress = None,
    max_fail_rate: MaxFailRate = 0.5,
    json: Json = False,
    no_progress: NoProgress = False,
    verbose: Verbose = 0,
) -> None:
    """Continue a stored study.

    Finished trials stay. Trials that were running continue from their last checkpoint.

    `--trials` is the study's total, so a larger one extends it. The exit codes are those of `nas search`.
    """
    require_current_folder()
    from nas.api.searching import stored_settings

    if retry not in (None, "failed"):
        raise UsageError(f"unknown kind of trial '{retry}'", where="--retry", help="the only one is: failed")
    file, own, place = stored_settings(study, storage, STORAGE)
    source = str(own / "study.toml")
    launch = launch_of(
        source,
        trials,
        time,
        cpus,
        gpus,
        executor,
        max_fail_rate,
        ray_address,
        retry_failed=retry is not None,
        folder=folder,
    )
    run_and_report(file, launch, json=json, live=not no_progress, verbose=verbose, folder=own, place=place)
