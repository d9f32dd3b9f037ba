"""`nas confirm` trains the front of a study again with new seeds, measures it again and tests it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.front import Where, front
from nas.cli.options import FOLDER, STORAGE, Folder, Json, Storage, StudyName, Verbose, naming_options
from nas.cli.search import Cpus, Executor, Gpus, NoProgress, RayAddress, written_report
from nas.folders import require_current_folder

if TYPE_CHECKING:
    from nas.running.confirmation_session import Ended


def confirm(
    study: StudyName,
    seeds: Annotated[int, typer.Option("--seeds", metavar="N", help="New seeds for every member at first.")] = 3,
    most: Annotated[int, typer.Option("--most", metavar="N", help="The most seeds that a member gets.")] = 8,
    budget: Annotated[
        str | None, typer.Option("--budget", metavar="20m", help="Save and stop after this long; exit code 0.")
    ] = None,
    where: Where = None,
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="N", help="Steps of a training; default: as in the search.")
    ] = None,
    here: Annotated[
        bool, typer.Option("--here", help="Measure on this machine, though the study was measured on other hardware.")
    ] = False,
    storage: Storage = None,
    folder: Folder = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
    executor: Executor = "ray",
    ray_address: RayAddress = None,
    json: Json = False,
    no_progress: NoProgress = False,
    verbose: Verbose = 0,
) -> None:
    """Confirm the front of a study.

    Trains its members, and the trials that it dominates by a little, with new seeds; measures them again in blocks, a
    minute apart; and tests those that remain. Members that cannot be told apart from a neighbour get more seeds. It
    counts in no budget of the search. Run again, it goes on where it stopped; with nothing left, it prints the result.

    Exit codes: 0; 2 wrong options, or a budget too small for the first seeds; 3 nothing on the front; 4 the study is
    being searched, or other hardware, data or training; 5 Ray or disk out of reach; 129, 130 and 143 interrupted,
    state saved.
    """
    require_current_folder()
    from nas.api.confirming import launch_of, run, wish_of
    from nas.cli.confirm_progress import ConfirmProgress
    from nas.cli.output import logged
    from nas.cli.streams import go_on_without
    from nas.running.study_log import keep_log
    from nas.study import open_study
    from nas.study.run_folders import folder_place

    with naming_options():
        wish = wish_of(seeds, most, where or (), steps, here)
        launch = launch_of(budget, cpus, gpus, executor, ray_address, folder_place(folder, FOLDER))
    stored, pages = open_study(study, storage, STORAGE), list[Path | None]()
    go_on_without()
    with (
        naming_options(),
        logged(verbose),
        keep_log(stored.folder),
        ConfirmProgress(json=json, live=not no_progress) as progress,
    ):
        ended = run(stored, wish, launch, progress, at_end=lambda study: pages.append(written_report(study)))
    if ended.closed and not pages:  # it was told to stop
        pages.append(written_report(ended.study))
    _finish(ended, pages[-1] if pages else None, json)
    if not json:
        front(study, where, "table", storage)
    if ended.signal is not None:
        raise typer.Exit(128 + ended.signal)


def _finish(ended: "Ended", page: Path | None, json: bool) -> None:
    from nas.cli.output import emit, people

    console, plan = people(), ended.plan
    trainings = {t.number: [r for r in plan.retrainings(ended.now, t.number) if r] for t in plan.members}
    remaining = [trial.number for trial in plan.remaining(ended.now)]
    told = "it was interrupted" if ended.signal else "it was told to stop, or its budget is over"
    end = str(ended.end or told)
    if json:
        members = [
            {
                "trial": number,
                "seeds": len(found),
                "failed": sum(training.failed for training in found),
                "tested": sum(bool(training.test) for training in found),
            }
            for number, found in trainings.items()
        ]
        emit(
            "result",
            study=ended.study.name,
            end=end,
            steps=plan.steps,
            members=members,
            remaining=remaining,
            report=str(page) if page else None,
        )
    counts = [len(found) for found in trainings.values()]
    seeds = f"{min(counts)} to {max(counts)}" if min(counts) != max(counts) else f"{min(counts)}"
    console.print(f"{len(plan.members)} members confirmed with {seeds} new seeds: {end}.", soft_wrap=True)
    for number, found in trainings.items():
        if failed := [training for training in found if training.failed]:
            reasons = ", ".join(sorted({training.reason for training in failed}))
            text = f"Trial {number} failed with {len(failed)} of {len(found)} seeds ({reasons}) and loses its place."
            console.print(text, soft_wrap=True)
    if ended.end and not remaining:
        text = "No member remains: each failed with a new seed, or is over a limit by its confirmed means."
        console.print(text, soft_wrap=True)
    if ended.end is None:
        console.print(f"Continue with: nas confirm {ended.study.in_commands}", soft_wrap=True)
    if page:
        console.print(f"Report: {page}", soft_wrap=True)
