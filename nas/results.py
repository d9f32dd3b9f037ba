"""Defines the results of trials: metrics with units, objectives and limits on them, and the record of a study.

Everything here is plain data from the database, and needs no torch, ray or optuna.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

from nas import intervals
from nas.architecture import Architecture
from nas.confirmation import Confirmation
from nas.errors import UsageError, nearest
from nas.formatting import one_line
from nas.reasons import Control
from nas.rungs import Rung as Rung
from nas.rungs import rungs_of as rungs_of

Goal = Literal["min", "max"]

ATTENTION_MAPS = "attention_maps.json"
"""The file in the folder of a trained trial that `nas.training.attention_maps` writes."""


@dataclass(frozen=True)
class Metric:
    """Describes a number that every trial stores. `cheap`: known without training. `exact`: no measuring noise."""

    name: str
    goal: Goal
    unit: str
    text: str
    cheap: bool = False
    exact: bool = False
    log: bool = False
    """True where ratios count, not differences, and values are above 0; a study file declares it of its own metrics."""


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("val_loss", "min", "nats/token", "validation cross-entropy", exact=True),
        Metric("val_accuracy", "max", "", "share of validation tokens predicted right", exact=True),
        Metric("bits_per_char", "min", "bits", "validation loss per character", exact=True),
        Metric("perplexity", "min", "", "exp of the validation loss", exact=True),
        Metric("macro_f1", "max", "", "mean over the classes of F1, the balance of precision and recall", exact=True),
        Metric("f1", "max", "", "overlap of the words of answers, the balance of precision and recall", exact=True),
        Metric("bleu", "max", "", "share of n-grams that translations have, 0 to 100 (sacrebleu)", exact=True),
        Metric("chrf", "max", "", "overlap of character n-grams with translations, 0 to 100 (sacrebleu)", exact=True),
        Metric("rouge_1", "max", "", "overlap of words with summaries, 0 to 100", exact=True),
        Metric("rouge_2", "max", "", "overlap of pairs of words with summaries, 0 to 100", exact=True),
        Metric("rouge_l", "max", "", "longest common subsequence with summaries, 0 to 100", exact=True),
        Metric("exact_match", "max", "", "share of answers right as a whole", exact=True),
        Metric("prefill_ms", "min", "ms", "time to read the prompt (median)", cheap=True),
        Metric("decode_ms_per_token", "min", "ms", "time per generated token (median)", cheap=True),
        Metric("generation_ms", "min", "ms", "time to read a source and write its whole answer (median)", cheap=True),
        Metric("peak_inference_mib", "min", "MiB", "peak memory of prefill and decoding", cheap=True, exact=True),
        Metric("peak_training_mib", "min", "MiB", "peak memory of a training step", cheap=True, exact=True),
        Metric("weights_mib", "min", "MiB", "parameters and buffers", cheap=True, exact=True),
        Metric("decode_state_kib", "min", "KiB", "cache or recurrent state at full context", cheap=True, exact=True),
        Metric("params", "min", "", "trained parameters", cheap=True, exact=True),
        Metric("flops_per_token", "min", "FLOP", "forward pass over a full context, per token", cheap=True, exact=True),
        Metric("energy_mj_per_token", "min", "mJ", "energy per generated token, where counted", cheap=True),
        Metric("train_seconds", "min", "s", "training time, pauses left out"),
        Metric("tokens_per_second", "max", "token/s", "training throughput"),
    )
}


def metric(name: str, own: Mapping[str, Metric] = MappingProxyType({})) -> Metric:
    """Returns the metric of that name: built in, or one of the study's `own`.

    Raises UsageError with the nearest valid name.
    """
    known = METRICS | dict(own)
    if name not in known:
        raise UsageError(f"unknown metric '{name}'", code="unknown-metric", help=nearest(name, known))
    return known[name]


@dataclass(frozen=True)
class Objective:
    """Names a metric to be minimised or maximised."""

    metric: str
    goal: Goal
    own: Metric | None = None
    """The declaration of the metric in the study file, where it is one of the study's own."""

    @cached_property
    def means(self) -> Metric:
        """Returns what is known of the metric; of an unknown one, nothing but its name."""
        return self.own or METRICS.get(self.metric) or Metric(self.metric, self.goal, "", "")

    @property
    def unit(self) -> str:
        return self.means.unit

    @property
    def label(self) -> str:
        return f"{self.metric} ({self.unit})" if self.unit else self.metric


@dataclass(frozen=True)
class Constraint:
    """Limits a metric from above, from below, or both."""

    metric: str
    max: float | None = None
    min: float | None = None
    own: Metric | None = None
    """The declaration of the metric, as of an objective."""

    @property
    def means(self) -> Metric:
        """Returns what is known of the metric; of an unknown one, nothing but its name."""
        return self.own or METRICS.get(self.metric) or Metric(self.metric, "min", "", "")

    def violation(self, metrics: Mapping[str, float]) -> float:
        """Tells how far over the limit a trial is, relative to it: <= 0 is feasible, and 0 where the metric is
        absent.
        """
        value = metrics.get(self.metric)
        if value is None:
            return 0.0
        over = [(value - self.max) / max(abs(self.max), 1e-12)] if self.max is not None else []
        under = [(self.min - value) / max(abs(self.min), 1e-12)] if self.min is not None else []
        return max(over + under)

    def __str__(self) -> str:
        low = f"{self.min:g} <= " if self.min is not None else ""
        high = f" <= {self.max:g}" if self.max is not None else ""
        return f"{low}{self.metric}{high}"


class State(StrEnum):
    """Names the states of a trial, in Optuna's words."""

    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"
    RUNNING = "RUNNING"
    WAITING = "WAITING"


@dataclass(frozen=True)
class TrialResult:
    """Holds one row of a study."""

    number: int
    state: State
    architecture_id: str
    architecture: Mapping[str, Any]
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    measurement: Mapping[str, Any] = field(default_factory=dict)
    """The way in which its times were measured (nas.measurement.TimedMetrics); empty where it is not stored."""
    rungs: tuple[Rung, ...] = ()
    violations: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    detail: str = ""
    """The message or the end of the traceback behind the reason."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """The parameters that were tried in a space of parameters, fixed ones included; the architecture is empty then."""
    learning_rate: float | None = None
    """The one that the search chose, where it chose one."""
    baseline: bool = False
    contended: bool = False
    predicted: Mapping[str, float] = field(default_factory=dict)
    """The values that a model of the sampler expected of each objective, before anything was measured."""
    bound: tuple[float, ...] = ()
    """The objectives in order, as good as the sampler thought them possible before training."""
    control: Control = field(default_factory=Control)
    """Holds what the rules said of it, where it may not end early."""
    redraws: int | None = None
    """The number of duplicates that were drawn before it."""
    attempt: int = 1
    started: float | None = None
    """Unix seconds at which the trial was first proposed."""
    finished: float | None = None
    """Unix seconds at which its result was told."""
    attempts: tuple[intervals.Span, ...] = ()
    """The spans in which it was running; empty where version 0.1 searched."""

    def __repr__(self) -> str:
        """Shows in one line what a person asks for first; `dataclasses.asdict` gives everything."""
        state = f"{self.state} ({self.reason})" if self.reason else str(self.state)
        names = [name for name in METRICS if name in self.metrics] or list(self.metrics)
        values = one_line({name: self.metrics[name] for name in names[:6]})
        try:
            tried = self.described[:200]
        except UsageError:  # a damaged architecture is told by what uses it
            tried = self.architecture_id
        return f"<TrialResult {self.number} {state}: {'; '.join(filter(None, (tried, values)))}>"

    @cached_property
    def model(self) -> Architecture:
        """Returns the architecture. Raises UsageError in a space of parameters, which has none."""
        if not self.architecture:
            text = f"trial {self.number} is a choice of parameters and has no architecture"
            raise UsageError(text, code="no-architecture")
        return Architecture.model_validate(dict(self.architecture))

    @cached_property
    def described(self) -> str:
        """Returns what was tried, in one line: the architecture, or the parameters."""
        return str(self.model) if self.architecture else one_line(self.parameters)

    @property
    def spans(self) -> tuple[intervals.Span, ...]:
        """Returns the spans in which the trial was running, as far as they are known."""
        if self.attempts or self.started is None or self.finished is None:
            return self.attempts
        return ((self.started, self.finished),)

    @cached_property
    def seconds(self) -> float | None:
        """Adds up how long its attempts took, pauses left out."""
        return intervals.seconds(self.spans) if self.spans else None

    @property
    def trained(self) -> bool:
        """Tells whether it counts towards the budget: fully trained, or stopped at a rung."""
        return self.state is State.COMPLETE or (self.state is State.PRUNED and bool(self.rungs))

    @property
    def feasible(self) -> bool:
        return all(v <= 0 for v in self.violations.values())

    def values(self, objectives: Iterable[Objective]) -> list[float] | None:
        """Returns the objectives in order; None when one is missing or not finite."""
        values = [self.metrics.get(o.metric, math.nan) for o in objectives]
        return values if all(math.isfinite(v) for v in values) else None

    @property
    def eligible(self) -> bool:
        """Tells whether it may stand on the front: COMPLETE and feasible."""
        return self.state is State.COMPLETE and self.feasible


@dataclass(frozen=True)
class StudyRecord:
    """Holds a whole study as stored: all that the report, the front and the tables need."""

    name: str
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    trials: tuple[TrialResult, ...]
    settings: Mapping[str, Any]
    """The resolved study file as plain data."""
    environment: Mapping[str, Any]
    """Hardware, versions, command line; `nas.measure.environment()` as JSON."""
    data: Mapping[str, Any]
    """The task's description of its data: name, sha256, characters, vocabulary, splits, and floors: split → name →
    metric → value."""
    budget: int
    created: float
    worked: tuple[intervals.Span, ...] = ()
    """The spans in which drivers worked on it; empty where version 0.1 searched."""
    own_metrics: Mapping[str, Metric] = field(default_factory=dict)
    """The metrics that the study file declares."""
    confirmed: Mapping[int, Confirmation] = field(default_factory=dict)
    """The trials that were trained again with new seeds and measured again, by number; empty when none was."""
    race: tuple[int, int] | None = None
    """The seeds that every confirmed trial gets at first, and the most; None where no confirmation stored them."""
    attention_maps: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """The attention maps of front members, as `nas.training.attention_maps` stores it; only a record for the report has
    them."""

    @property
    def metrics(self) -> dict[str, Metric]:
        """Returns every metric that is known by name: those built in, and the study's own."""
        return METRICS | dict(self.own_metrics)

    @property
    def body(self) -> str:
        """Returns the training of the user's own, module:function; empty for the built-in one."""
        return str(self.settings.get("trial", {}).get("body", ""))

    def go_on(self, study: str) -> str:
        """Returns the command that continues the study, called `study` there. A stored study never runs code, so that
        one with a training of the user's own needs its file.
        """
        return "nas search FILE" if self.body else f"nas resume {study}"

    @property
    def subject(self) -> str:
        """Names what the study chooses: architecture, or parameters."""
        return "parameters" if "parameters" in self.settings.get("space", {}) else "architecture"

    @property
    def curve(self) -> Objective | None:
        """Names what learning curves show: the validation loss; where rungs have none, the first trained objective."""
        told = {name for trial in self.trials for rung in trial.rungs for name in rung.metrics}
        wanted = [Objective("val_loss", "min"), *(o for o in self.objectives if not o.means.cheap)]
        return next((objective for objective in wanted if objective.metric in told), None)

    @cached_property
    def working(self) -> tuple[intervals.Span, ...]:
        """Returns the spans in which the study was worked on: its launches, and its trials, as earlier versions stored
        no launches."""
        return tuple(intervals.union([*self.worked, *(span for trial in self.trials for span in trial.spans)]))

    def trained_count(self) -> int:
        return sum(t.trained for t in self.trials)
