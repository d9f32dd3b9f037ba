"""Writes the numbers and sentences of the report."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter

from nas.architecture import Family
from nas.formatting import number
from nas.reasons import Reason
from nas.report.summary import Role, Summary
from nas.report.window import Window
from nas.results import METRICS, Constraint, Goal, Metric, State, StudyRecord, TrialResult
from nas.space.architecture_space import Space
from nas.space.parameter_settings import ParameterSettings
from nas.space.parameter_space import ParameterSpace
from nas.space.settings import AnySpace, FamilySpaces, SpaceSettings, by_family
from nas.toml_table import as_tuple


def listed(items: Sequence[str]) -> str:
    """Joins words as "a, b and c"."""
    return " and ".join(filter(None, [", ".join(items[:-1]), items[-1]])) if items else ""


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 'es' if noun.endswith('s') else 's'}"


def beyond(window: Window, of: str = "trial") -> tuple[str, str]:
    """Tells how many values lie below and above what a chart shows, and how far; each empty where there is none."""
    under = f"{plural(window.under, of)} down to {number(window.least)}" if window.under else ""
    over = f"{plural(window.over, of)} up to {number(window.most)}" if window.over else ""
    return under, over


def searched(record: StudyRecord) -> str:
    """Tells in one sentence which architectures were trained on what, and what compares them."""
    settings = record.settings
    aims = listed([f"{'low' if o.goal == 'min' else 'high'} {o.metric}" for o in record.objectives])
    if "space" not in settings:
        return f"Architectures compared by {aims}."
    space = ANY_SPACE.validate_python(settings["space"])
    if isinstance(space, ParameterSettings):
        names = listed(list(space.parameters))
        count = "Continuous choices" if space.size is None else plural(space.size, "choice")
        return f"{count} of {names}, tried by {settings.get('trial', {}).get('body', 'a body')}, compared by {aims}."
    families: tuple[Family, ...] = as_tuple(settings.get("family", "decoder"))
    spaces = by_family(families, space)
    sizes = "; ".join(_sizes(family, space, len(families) > 1) for family, space in spaces.items())
    steps, corpus = settings.get("train", {}).get("steps"), record.data.get("name")
    training = f"trained{f' for {steps:,} steps' if steps else ''}{f' on {corpus}' if corpus else ''}"
    names = listed([family.replace("_", "-") for family in families])
    count = plural(Space(spaces).size(), f"{names} architecture")
    return f"{count} ({sizes}), {training}, compared by {aims}."


def space_of(record: StudyRecord) -> Space | ParameterSpace | None:
    """Returns the space that was searched; None where the study stores none."""
    settings = record.settings
    if "space" not in settings:
        return None
    space = ANY_SPACE.validate_python(settings["space"])
    if isinstance(space, ParameterSettings):
        return ParameterSpace(space)
    families: tuple[Family, ...] = as_tuple(settings.get("family", "decoder"))
    return Space(by_family(families, space))


ANY_SPACE: TypeAdapter[SpaceSettings | FamilySpaces | ParameterSettings] = TypeAdapter(AnySpace)


def _sizes(family: str, space: SpaceSettings, named: bool) -> str:
    """Tells what may be chosen in one family's space, in few words."""
    kinds = listed(sorted({entry["kind"] for entry in space.attention}))
    mixed = ", chosen layer by layer" if space.mixed and len(space.attention) > 1 else ""
    parts = [
        f"hidden size {_range(space.hidden)}",
        f"{_range(space.depth)} layers",
        f"{kinds} attention" if kinds else "",
    ]
    return f"{family.replace('_', '-') + ': ' if named else ''}{', '.join(filter(None, parts))}{mixed}"


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


FAILURES: dict[str, str] = {
    Reason.NAN: "a loss or an objective was not finite",
    Reason.OOM: "out of memory",
    Reason.TIMEOUT: "took longer than the study allows",
    Reason.ERROR: "an error",
    Reason.STALE: "several workers died while running it",
}
"""The reasons of failed trials, in words."""


def disturbed(trial: TrialResult, own: Mapping[str, Metric]) -> bool:
    """Tells whether a limit on a time was judged by a measurement that other load disturbed. `own` holds the metrics
    that the study declares.
    """
    over = [own.get(name) or METRICS.get(name) for name, violation in trial.violations.items() if violation > 0]
    return trial.contended and any(metric.cheap and not metric.exact for metric in over if metric)


def by_best_readings(trial: TrialResult, constraints: Sequence[Constraint]) -> bool:
    """Tells whether the trial is over a limit by its stored time, and within it by the fastest readings."""
    over = (limit for limit in constraints if limit.violation(trial.metrics) > 0)
    return trial.contended and any(trial.violations.get(limit.metric, 0.0) <= 0 for limit in over)


def outcomes(summary: Summary) -> list[tuple[str, str, int]]:
    """Counts trials as (state, reason, how many), in the order of states in `Role`."""
    counts: dict[tuple[Role, str], int] = {}
    for trial in summary.record.trials:
        role = summary.roles[trial.number]
        key = role, reason(trial, role, summary.record.own_metrics)
        counts[key] = counts.get(key, 0) + 1
    order = list(Role)
    return [
        (str(role), why, n) for (role, why), n in sorted(counts.items(), key=lambda i: (order.index(i[0][0]), -i[1]))
    ]


def reason(trial: TrialResult, role: Role, own: Mapping[str, Metric]) -> str:
    """Says why a trial is not on the front, as a phrase; the stored reason where that says it."""
    if role is Role.STOPPED:
        return f"at step {trial.rungs[-1].step:,}: could not reach the front"
    if role is Role.SKIPPED:
        return "even its optimistic forecast was dominated"
    if role is Role.INFEASIBLE:
        over = [name for name, violation in trial.violations.items() if violation > 0]
        at_rung = f"at step {trial.rungs[-1].step:,}: would end " if trial.state is State.PRUNED and trial.rungs else ""
        load = ", measured while other programs ran" if disturbed(trial, own) else ""
        return f"{at_rung}over the limit on {listed(over)}{load}"
    if role is Role.UNMEASURED:
        return "an objective has no finite value"
    failure = FAILURES.get(Reason.from_stored(trial.reason) or "") if role is Role.FAILED else None
    return failure or trial.reason or {Role.FRONT: "non-dominated", Role.OPEN: str(trial.state).lower()}.get(role, "")


def line_meaning(summary: Summary) -> str:
    """Explains the stepped line of the chart and its filled marks."""
    match len(summary.record.objectives):
        case 1:
            return "The line follows the best value so far."
        case 2:
            return "The line is the front."
        case count:
            return (
                f"The line is the front of the two axes shown; filled marks are on the front of all {count} objectives."
            )


def reference(summary: Summary) -> str:
    """Explains the hypervolume's reference point; empty where there is none."""
    if summary.history is None:
        return ""
    pairs = zip(summary.record.objectives, summary.history.reference, strict=True)
    return listed([f"{objective.metric} {number(value)}" for objective, value in pairs])


def duration(trial: TrialResult) -> float | None:
    """Adds up the seconds that the attempts took, from the first proposal to the result."""
    return None if trial.finished is None or trial.seconds is None else round(trial.seconds, 1)


def floor_sentences(summary: Summary) -> list[str]:
    """Compares the best trial with each floor in its metrics, groups left out: on the validation split, and where
    confirmed on the test split.
    """
    floors = summary.record.data.get("floors", {})
    sentences = []
    for split, note in (("val", ""), ("test", ", mean of its confirmations")):
        metrics = dict.fromkeys(metric for metrics in floors.get(split, {}).values() for metric in metrics)
        for metric in (metric for metric in metrics if ":" not in metric):
            told = {name: metrics[metric] for name, metrics in floors[split].items() if metric in metrics}
            values, name = _values(summary, split, metric)
            if values:
                goal = goal_of(summary.record, metric)
                sentences.append(_against(values, told, goal, f"{name}{note}"))
    return sentences


def best_beside_floor(summary: Summary, metric: str) -> float | None:
    """Returns the best validation value of a trial in a floor's metric."""
    values, _ = _values(summary, "val", metric)
    best = min if goal_of(summary.record, metric) == "min" else max
    return best(values.values(), default=None)


def goal_of(record: StudyRecord, metric: str) -> Goal:
    """Returns the goal of a floor's metric, or of one group of it; unknown shares and scores count as better when
    larger.
    """
    name = metric.partition(":")[0]
    metrics = record.metrics
    known = metrics.get(name, metrics.get(f"val_{name}"))
    return known.goal if known else "max"


def _values(summary: Summary, split: str, metric: str) -> tuple[dict[int, float], str]:
    """Returns trial number → its value of a floor's metric, and the metric's name there: val_loss, or simply
    macro_f1.
    """
    known = f"{split}_{metric}"
    if split == "test":
        return confirmed_means(summary, known), known
    known = known if known in summary.record.metrics else metric
    return {t.number: t.metrics[known] for t in summary.eligible if known in t.metrics}, known


def _against(values: Mapping[int, float], floors: Mapping[str, float], goal: Goal, what: str) -> str:
    sign = 1 if goal == "min" else -1
    best = min(values, key=lambda n: (sign * values[n], n))
    better = [f"the {name} ({number(value)})" for name, value in floors.items() if sign * (value - values[best]) > 0]
    others = [f"the {name} ({number(value)})" for name, value in floors.items() if sign * (value - values[best]) <= 0]
    sides = [f"better than {listed(better)}" if better else "", f"not better than {listed(others)}" if others else ""]
    verdict = ", ".join(filter(None, sides))
    unit = " nats" if what.startswith(("val_loss", "test_loss")) else ""
    return f"The best trial, {best}, reaches {number(values[best])}{unit} ({what}): {verdict}."


def confirmed_means(summary: Summary, metric: str) -> dict[int, float]:
    """Returns trial number → the mean over the new seeds with which it was trained again."""
    members = summary.certainty.members.values() if summary.certainty else ()
    return {member.trial: member.metrics[metric].mean for member in members if metric in member.metrics}


def lost(data: Mapping[str, Any], context: int) -> str:
    """Tells which parts of the examples models do not see, or cannot encode; empty where there are none."""
    told = {
        f"Longer than the context of {context:,} tokens": "too_long",
        "Answers cut off with the rest": "answers_cut_off",
        "Answers that end inside a subword, so no span equals them (lower task.subwords)": "answers_within_subwords",
        "Tokens that the training split lacks": "unseen",
    }
    sentences = []
    for what, key in told.items():
        counts = data.get(key, {}).items()
        whole = {} if key == "unseen" else data.get("splits", {})  # a text's splits are places in it
        of = {split: f"{count:,} of {whole[split]:,}" if whole else f"{count:,}" for split, count in counts}
        parts = [f"{of[split]} in {split}" for split, count in counts if count]
        sentences += [f"{what}: {', '.join(parts)}."] if parts else []
    return " ".join(sentences)


def flat(data: Mapping[str, Any], path: str = "") -> list[tuple[str, str]]:
    """Flattens nested data to (dotted path, text) rows."""
    rows: list[tuple[str, str]] = []
    for key, value in data.items():
        place = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping):
            rows += flat(value, place)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            rows += [row for i, item in enumerate(value) for row in flat(item, f"{place}[{i}]")]
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            rows.append((place, text or "none"))
    return rows
