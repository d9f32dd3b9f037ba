"""Reads the `[metrics.NAME]` tables of a study file: the metrics that a body of your own measures."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from nas.errors import InvalidStudyFile, UsageError
from nas.measurement import ENDINGS
from nas.results import METRICS, Goal, Metric, metric
from nas.settings.study_settings import ConstraintSettings, ObjectiveSettings
from nas.spec import Flag
from nas.toml_table import Table

MetricName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]
SPREADS = ("_p10", "_p90", "_p95", "_count", "_best")
"""The spread of a metric, and its fastest reading, are stored under its name with these endings. A study's own metrics
have no other endings (nas.measurement.ENDINGS)."""
OF_BUILT_IN = frozenset(f"{name}{ending}" for name in METRICS for ending in ENDINGS)
RESERVED = ("contended", "trial", "number", "state", "reason")
"""These names are columns of the report or marks of a trial."""


class MetricSettings(Table):
    """Describes a metric. `cheap`: known without training. `exact`: without noise. `log`: its ratios count."""

    goal: Goal
    unit: str = Field(default="", max_length=24)
    text: str = Field(default="", max_length=200)
    cheap: Flag = False
    exact: Flag = False
    log: Flag = False


def own_metrics(tables: Mapping[str, MetricSettings]) -> dict[str, Metric]:
    """Returns the metrics that these tables declare.

    Raises InvalidStudyFile for a name that has another meaning already.
    """
    for name in tables:
        ending = next((ending for ending in SPREADS if name.endswith(ending)), None)
        if name in METRICS or name in RESERVED or ending or name in OF_BUILT_IN:
            text = f"'{name}' is built in and cannot be declared again" if name in METRICS else f"'{name}' is reserved"
            raise InvalidStudyFile(
                f"names that end in {ending} hold readings of another metric" if ending else text,
                code="metric-name",
                where=f"metrics.{name}",
                detail=_meaning(METRICS[name]) if name in METRICS else "",
                help="leave the table out, or give the metric another name",
            )
    return {
        name: Metric(name, table.goal, table.unit, table.text, table.cheap, table.exact, table.log)
        for name, table in tables.items()
    }


def check_used(
    tables: Mapping[str, Sequence[ObjectiveSettings | ConstraintSettings]], own: Mapping[str, Metric]
) -> None:
    """Raises InvalidStudyFile where the objectives or limits use an unknown metric, or one metric twice."""
    for table, entries in tables.items():
        seen: set[str] = set()
        for i, entry in enumerate(entries):
            where = f"{table}[{i}].metric"
            try:
                metric(entry.metric, own)
            except UsageError as error:
                raise InvalidStudyFile(error.message, code=error.code, where=where, help=error.help) from None
            if entry.metric in seen:
                raise InvalidStudyFile(f"metric '{entry.metric}' is given twice", where=where, help="keep one")
            seen.add(entry.metric)


def _meaning(metric: Metric) -> str:
    return f"it means: {metric.text}{f', in {metric.unit}' if metric.unit else ''}, to be made {WORDS[metric.goal]}"


WORDS: dict[Goal, str] = {"min": "small", "max": "large"}
