"""`nas show` prints everything about one trial."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.cli.options import FOLDER, STORAGE, Folder, Json, Storage, StudyName, TrialNumber
from nas.formatting import duration, fixed, number, spread
from nas.printable import printable

if TYPE_CHECKING:
    from rich.table import Table

    from nas.report.sureness import Sureness
    from nas.results import Constraint, StudyRecord, TrialResult

MOST_COLUMNS = 6
"""The most metrics of the user's own body that are shown at each rung."""


def show(
    study: StudyName, trial: TrialNumber, storage: Storage = None, folder: Folder = None, json: Json = False
) -> None:
    """Show everything about one trial.

    Shows its architecture block by block, its metrics and rungs, how it ended, its trained models, and the commands
    that use it.

    Exit codes: 0; 2 when there is no such study or trial.
    """
    from nas import pareto
    from nas.cli.output import emit, people
    from nas.report.sureness import Sureness
    from nas.study.run_folders import folder_place
    from nas.study.stored_study import open_study, trial_of
    from nas.study.study_drivers import hardware_of
    from nas.study.trained_models import trained_models

    stored = open_study(study, storage, STORAGE, run_folder=folder_place(folder, FOLDER))
    record = stored.record()
    found = trial_of(record, trial)
    front = found.number in {member.number for member in pareto.front_of(record)}
    models, hardware = trained_models(stored, trial), hardware_of(stored, trial)
    proposals = _proposals(stored.in_commands, found, models, record)
    if stored.missing_files:
        people().print(f"Its weights are missing: {stored.missing_files}", soft_wrap=True)
    sureness = Sureness.of(record)
    if json:
        commands = [command for command, _ in proposals]
        told = {"study": stored.name, "on_front": front, "hardware": hardware, "commands": commands, "models": models}
        confirmed = member.plain() if (member := sureness.member(found)) else None
        emit("result", **told, confirmed=confirmed, failed_seeds=sureness.failed(found), **asdict(found))
    else:
        _print(found, front, hardware, proposals, models, sureness)
    if front and stored.files_elsewhere:
        people().print(f"Its weights are not shown: {stored.files_elsewhere}", soft_wrap=True)


def _proposals(
    named: str, trial: "TrialResult", models: Sequence[Mapping[str, Any]], record: "StudyRecord"
) -> list[tuple[str, str]]:
    """Lists commands and what they do: one trains the trial, another writes text where there are weights for that."""
    from shlex import quote

    from nas.report.next_training import NextTraining
    from nas.study.trained_models import prompt_for

    training = NextTraining.of(trial, record.settings)
    if training is None:
        return []
    proposals = [(training.command(named), str(training))]
    if models and trial.model.family != "encoder":
        prompt = quote(prompt_for(Path(models[0]["folder"])))
        proposals.append((f"nas generate {named} {trial.number} --prompt {prompt}", "Write text with it"))
    return proposals


def _print(
    trial: "TrialResult",
    front: bool,
    hardware: str,
    proposals: Sequence[tuple[str, str]],
    models: Sequence[Mapping[str, Any]],
    sureness: "Sureness",
) -> None:
    from nas.cli.tables import answers

    console = answers()
    console.print(_facts(trial, front, hardware, sureness))
    console.print("", _blocks(trial) if trial.architecture else _parameters(trial), sep="\n")
    if trial.metrics:
        console.print("", _metrics(trial, sureness), sep="\n")
    if trial.rungs:
        console.print("", _rungs(trial), sep="\n")
    if models:
        console.print("", _models(models), sep="\n")
    for command, what in proposals:
        console.print(f"\n{what}:\n  {command}", soft_wrap=True)


def _facts(trial: "TrialResult", front: bool, hardware: str, sureness: "Sureness") -> "Table":
    from nas.cli.tables import pairs
    from nas.measurement import missed

    marks = {"on the front": front, "a baseline": trial.baseline, "contended": trial.contended}
    facts = {
        "trial": ", ".join([str(trial.number), *(mark for mark, holds in marks.items() if holds)]),
        "state": f"{trial.state}: {trial.reason}" if trial.reason else str(trial.state),
        "attempt": str(trial.attempt),
    }
    if trial.finished and trial.seconds is not None:
        facts["took"] = duration(trial.seconds)
    if hardware:
        facts["hardware"] = printable(hardware)
    if confirmed := sureness.told(trial):
        facts["confirmed"] = confirmed
    over = [_over(trial, limit) for limit in sureness.record.constraints if trial.violations.get(limit.metric, 0.0) > 0]
    if over:
        facts["over limit"] = "\n".join(over)
    if conditions := missed(trial.measurement):
        facts["not met"] = "\n".join(conditions)
    if trial.detail:
        facts["detail"] = trial.detail.strip()
    if trial.architecture:
        facts["architecture"] = f"{trial.architecture_id}, hidden {trial.model.hidden}"
    else:
        facts["parameters"] = trial.architecture_id
    if trial.learning_rate is not None:
        facts["learning rate"] = f"{trial.learning_rate:g}"
    return pairs(facts)


def _over(trial: "TrialResult", limit: "Constraint") -> str:
    """Tells the value found, and the limit: `weights_mib 18.2, limit weights_mib <= 16`."""
    value = trial.metrics.get(limit.metric)
    return f"{limit.metric} {'unknown' if value is None else number(value)}, limit {limit}"


def _models(models: Sequence[Mapping[str, Any]]) -> "Table":
    from nas.cli.tables import table

    shown = table("trained model", "steps", "seed", "test_loss", numbers=("steps", "seed", "test_loss"))
    for model in models:
        loss = model["test_loss"]
        told = ["" if model[key] is None else str(model[key]) for key in ("steps", "seed")]
        shown.add_row(model["folder"], *told, number(loss) if isinstance(loss, float) else "")
    return shown


def _blocks(trial: "TrialResult") -> "Table":
    from nas.cli.tables import table

    model = trial.model
    stacks = {"encoder ": model.encoder_blocks, "": model.blocks}
    shown = table("block", "attention", "position", *(["to source"] if model.encoder_blocks else []), "feed-forward")
    for side, i, block in ((side, i, block) for side, blocks in stacks.items() for i, block in enumerate(blocks)):
        source = [str(block.cross or "")] if model.encoder_blocks else []
        inner = block.feed_forward.inner(model.hidden)
        fed = f"{block.feed_forward}, {inner} wide" if inner else "none"
        shown.add_row(f"{side}{i}", str(block.attention), block.position, *source, fed)
    return shown


def _parameters(trial: "TrialResult") -> "Table":
    from nas.cli.tables import table

    shown = table("parameter", "value", numbers=("value",))
    for name, value in trial.parameters.items():
        shown.add_row(name, f"{value:.6g}" if isinstance(value, float) else str(value))
    return shown


def _metrics(trial: "TrialResult", sureness: "Sureness") -> "Table":
    from nas.cli.tables import table
    from nas.measurement import DEPTHS
    from nas.report.sureness import ONE_SEED, interval

    metrics, member = sureness.record.metrics, sureness.member(trial)
    confirmed = member.metrics if member else {}
    sure = ("confirmed (95 %)",) if confirmed else ()
    shown = table("metric", "value", "unit", "p10–p90", *sure, numbers=("value",))
    known = [name for name in metrics if name in trial.metrics]
    # Spreads stand beside their metric, and `contended` among the facts; what is left is the task's own.
    elsewhere = ("contended", *(f"{name}_" for name in known))
    own = [name for name in trial.metrics if name not in metrics and not name.startswith(elsewhere)]
    tested = [name for name in confirmed if name not in trial.metrics]
    trained = {o.metric for o in sureness.record.objectives if not o.means.cheap} if trial.eligible else set()
    for name in [*known, *own, *tested]:
        unit = metrics[name].unit if name in metrics else ""
        within = spread(trial.metrics, name) or (ONE_SEED if name in trained else "")
        told = [interval(confirmed[name]) if name in confirmed else ""] if sure else []
        shown.add_row(name, number(trial.metrics.get(name)), unit, within, *told)
        for depth in (f"{name}{ending}" for ending in DEPTHS if f"{name}{ending}" in trial.metrics):
            shown.add_row(depth, number(trial.metrics[depth]), unit)
    return shown


def _rungs(trial: "TrialResult") -> "Table":
    from nas.cli.tables import table

    told = list(trial.rungs[0].metrics)
    names = [name for name in ("val_loss", "val_accuracy") if name in told] or told[:MOST_COLUMNS]
    shown = table("step", "seconds", *names, numbers=("step", "seconds", *names))
    for rung in trial.rungs:
        shown.add_row(str(rung.step), fixed(rung.seconds, 1), *(number(rung.metrics[name]) for name in names))
    return shown
