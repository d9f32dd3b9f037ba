"""Renders the page: one HTML file with its style, its script, its figures and its data, that loads nothing."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from nas import formatting
from nas.measurement import missed
from nas.report import attention, remarks, words
from nas.report.account import Account
from nas.report.figures import Drawn
from nas.report.folder import MARK
from nas.report.inline import inline
from nas.report.next_training import NextTraining
from nas.report.palette import DARK, LIGHT
from nas.report.summary import DRAWN, Role, Summary
from nas.report.sureness import ONE_SEED, PERCENTILES, Cell, Sureness, interval
from nas.report.window import spans_decades
from nas.results import Objective, TrialResult

HERE = Path(__file__).parent
SHOWN_BESIDE = ("weights_mib", "decode_state_kib", "params", "flops_per_token", "prefill_ms", "train_seconds")
"""The chart shows these metrics of a trial besides its objectives."""


@dataclass(frozen=True)
class Row:
    """Holds a trial as tables show it; `cells` has (the value to sort by, its text, its spread) for each objective."""

    trial: TrialResult
    role: Role
    reason: str
    flags: tuple[str, ...]
    cells: tuple[tuple[float | None, str, str], ...]
    training: NextTraining | None


KINDS = ("pareto", "hypervolume", "learning", "importance")


def render(summary: Summary, account: Account, drawn: list[Drawn]) -> str:
    """Returns the text of index.html."""
    sureness = Sureness(summary.record, summary.certainty)
    rows = [_row(summary, trial) for trial in summary.record.trials]
    by_number = {row.trial.number: row for row in rows}
    front = sureness.ranked(summary.front)
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"breakable": breakable, "number": formatting.number, "interval": interval}
    figures = [(figure, inline(figure)) for figure in drawn]
    return environment.get_template("page.html").render(
        summary=summary,
        record=summary.record,
        words=words,
        ABSENT=formatting.ABSENT,
        duration=formatting.duration,
        moment=formatting.moment,
        study=_study(summary),
        rows=rows,
        front=[by_number[trial.number] for trial in front],
        sureness=sureness,
        ONE_SEED=ONE_SEED,
        PERCENTILES=PERCENTILES,
        sure_front=any(sureness.member(trial) for trial in front),
        lone_front=any(sureness.alone(trial) for trial in front),
        by_number=by_number,
        outcomes=words.outcomes(summary),
        remarks=remarks.remarks(summary),
        why_empty=remarks.why_empty(summary),
        figures={kind: [f for f in figures if f[0].kind == kind] for kind in KINDS},
        account=account,
        floors=_floors(summary),
        attention=attention.members(summary.front, summary.record.attention_maps),
        environment=words.flat(summary.record.environment),
        data=words.flat({k: v for k, v in summary.record.data.items() if k not in ("floors", "too_long")}),
        lost=words.lost(summary.record.data, summary.record.settings.get("task", {}).get("context", 0)),
        steps=_next_steps(summary),
        settings=tomli_w.dumps(summary.record.settings),
        themes={"light": LIGHT, "dark": DARK},
        mark=Markup(MARK),
        style=_source("page.css"),
        script=_source("chart.js") + _source("page.js"),
        chart=_chart(summary, rows, sureness),
    )


def breakable(name: str) -> Markup:
    """Lets a long metric name break after each underscore."""
    return Markup(str(escape(name)).replace("_", "_<wbr>"))


def _source(name: str) -> Markup:
    """Reads our own style or script, which needs no escaping."""
    return Markup((HERE / name).read_text(encoding="utf-8"))


def _study(summary: Summary) -> str:
    """Returns the study's name as a shell takes it."""
    return shlex.quote(summary.record.name)


def _next_steps(summary: Summary) -> list[tuple[str, str]]:
    """Lists (purpose, command)."""
    record, study = summary.record, _study(summary)
    go_on = record.go_on(study)
    alone = not record.body and summary.certainty is None and bool(summary.front)
    steps = {
        "continue where it stopped": go_on if record.trained_count() < record.budget else "",
        "run failed trials once more": f"{go_on} --retry failed"
        if summary.with_role(Role.FAILED) and not record.body
        else "",
        "tell how sure the front is": f"nas confirm {study}" if alone else "",
        "search with twice the budget": f"{go_on} --trials {2 * record.budget}",
    }
    return [(what, command) for what, command in steps.items() if command]


def _row(summary: Summary, trial: TrialResult) -> Row:
    role = summary.roles[trial.number]
    flags = {"knee": trial.number == summary.knee, "baseline": trial.baseline, "contended": trial.contended}
    flags |= {"control": bool(trial.control.skip or trial.control.stop)}
    return Row(
        trial=trial,
        role=role,
        reason=words.reason(trial, role, summary.record.own_metrics),
        flags=tuple(name for name, holds in flags.items() if holds),
        cells=tuple(
            (value := summary.value(trial, o), formatting.number(value), formatting.spread(trial.metrics, o.metric))
            for o in summary.record.objectives
        ),
        training=NextTraining.of(trial, summary.record.settings),
    )


def _floors(summary: Summary) -> list[tuple[str, str, float | None, float | None, float | None]]:
    """Lists (name, metric, its value on the validation split, that of the best trial, its value on the test split)."""
    floors = summary.record.data.get("floors", {})
    val, test = floors.get("val", {}), floors.get("test", {})
    return [
        (
            name,
            metric,
            val.get(name, {}).get(metric),
            words.best_beside_floor(summary, metric),
            test.get(name, {}).get(metric),
        )
        for name in dict.fromkeys([*val, *test])
        for metric in dict.fromkeys([*val.get(name, {}), *test.get(name, {})])
    ]


def _chart(summary: Summary, rows: list[Row], sureness: Sureness) -> dict[str, Any]:
    """Returns what the script draws and filters, as JSON: no value in it is NaN or infinite."""
    drawn = [t for t in summary.with_role(*DRAWN) if any(summary.value(t, axis) is not None for axis in summary.axes)]
    axes = [_axis(summary, axis, drawn) for axis in summary.axes]
    return {
        "study": _study(summary),
        "axes": axes,
        "objectives": len(summary.record.objectives),
        "knee": summary.knee,
        "trials": [_point(summary, row, sureness) for row in rows],
    }


def _axis(summary: Summary, axis: Objective, drawn: list[TrialResult]) -> dict[str, Any]:
    """Describes an axis: `low` to `high` is shown, `beyond` tells what lies below and above; null where no trial has a
    value.
    """
    facts: dict[str, Any] = {"metric": axis.metric, "label": axis.label, "goal": axis.goal}
    values = [value for trial in drawn if (value := summary.value(trial, axis)) is not None]
    if not values:
        return facts | {"log": False, "low": None, "high": None, "beyond": ["", ""], "wholeLog": False}
    window = summary.window(axis, drawn)
    shown = {"log": window.log, "low": window.low, "high": window.high, "beyond": words.beyond(window)}
    return facts | shown | {"wholeLog": spans_decades(values)}


def _point(summary: Summary, row: Row, sureness: Sureness) -> dict[str, Any]:
    trial, objectives = row.trial, summary.record.objectives
    beside = [m for m in SHOWN_BESIDE if m in trial.metrics and m not in {o.metric for o in objectives}]
    facts = [_fact(Objective(m, "min"), Cell(formatting.number(trial.metrics[m]))) for m in beside]
    facts += [["not met", text, "", ""] for text in missed(trial.measurement)]
    if trial.learning_rate is not None:
        facts.append(["learning rate", f"{trial.learning_rate:g}", "", ""])
    if confirmed := sureness.told(trial):
        facts.insert(0, ["new seeds", confirmed, "", ""])
    return {
        "number": trial.number,
        "role": row.role,
        "baseline": trial.baseline,
        "flags": row.flags,
        "reason": row.reason,
        "architecture": trial.described,
        "values": [summary.value(trial, axis) for axis in summary.axes],
        "facts": [_fact(objective, sureness.beside_the_search(trial, objective)) for objective in objectives],
        "beside": facts,
        "training": str(row.training) if row.training else "",
        "command": row.training.command(_study(summary)) if row.training else "",
    }


def _fact(objective: Objective, cell: Cell) -> list[str]:
    unit = f" {objective.unit}" if objective.unit and cell.text != formatting.ABSENT else ""
    return [objective.metric, cell.text + unit, cell.small, cell.meaning]
