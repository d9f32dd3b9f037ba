"""Defines how a study trains, measures and searches: the small tables of a study file, one class each."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from nas import bounds
from nas.results import Goal
from nas.settings import protocol_versions, recipe_versions
from nas.spec import Flag
from nas.toml_table import Count, Number, Table, as_tuple, distinct, duration

Rate = Annotated[Number, Field(gt=0, le=bounds.RATE)]
Batch = Annotated[Count, Field(le=bounds.TOKENS_AT_ONCE)]
OptimiserName = Literal["muon", "adamw"]


def _increasing(values: tuple[float, ...]) -> tuple[float, ...]:
    if list(values) != sorted(set(values)) or not values or values[0] <= 0 or values[-1] != 1:
        raise ValueError("rungs are rising fractions of the steps, above 0, and the last is 1.0")
    if len(values) > bounds.RUNGS:
        raise ValueError(f"expected at most {bounds.RUNGS} rungs, got {len(values):,}")
    return values


class TrainSettings(Table):
    """Describes one training run.

    `learning_rate`: none is the recipe's own, scaled by width; a list is searched. `micro_batch`: the most examples of
    a batch that are taken at once, to save memory; none takes the batch whole. `precision`: "auto" computes in
    bfloat16 where a GPU has it. `compile`: "auto" compiles on a GPU where that pays within the training. `recipe`: a
    version of the recipe (nas.settings.recipe_versions).
    """

    steps: Count = 200
    batch: Batch = 16
    micro_batch: Batch | None = None
    rungs: Annotated[tuple[Number, ...], BeforeValidator(as_tuple), AfterValidator(_increasing)] = (0.25, 0.5, 1.0)
    recipe: Count = recipe_versions.NEWEST
    optimiser: OptimiserName = "muon"
    precision: Literal["auto", "fp32"] = "auto"
    compile: Literal["auto"] | Flag = "auto"
    learning_rate: Annotated[tuple[Rate, ...], BeforeValidator(as_tuple), AfterValidator(distinct)] | None = None
    warmup: Number = Field(default=0.05, ge=0, lt=1)
    clip: Number = Field(default=1.0, gt=0, le=bounds.RATE)
    weight_decay: Number = Field(default=0.0, ge=0, le=bounds.RATE)
    evaluation_tokens: Count = 65536
    time_limit: Annotated[Number, BeforeValidator(duration)] | None = Field(default=None, gt=0, le=bounds.SECONDS)

    @model_validator(mode="after")
    def _within_the_batch(self) -> Self:
        if self.micro_batch is not None and self.micro_batch > self.batch:
            raise ValueError(f"micro_batch = {self.micro_batch} must not be above batch = {self.batch}")
        return self


class MeasureSettings(Table):
    """Describes the timed workload, a prompt, then tokens one by one up to the context, and how long it is timed.

    `repeats`: about the least rounds, of which there are at most eight times as many. `precision`: rounds are added
    until the interval of each median is within this share of it. `protocol`: a version of the protocol
    (nas.settings.protocol_versions).
    """

    batch: Batch = 1
    prompt: Count | None = None
    threads: Annotated[Count, Field(le=bounds.THREADS)] = 1
    repeats: Annotated[Count, Field(le=bounds.REPEATS)] = 30
    precision: Number = Field(default=0.02, ge=bounds.PRECISION, le=1)
    protocol: Count = protocol_versions.NEWEST


class ObjectiveSettings(Table):
    metric: str
    goal: Goal | None = None


class ConstraintSettings(Table):
    metric: str
    max: Number | None = None
    min: Number | None = None

    @model_validator(mode="after")
    def _limited(self) -> Self:
        if self.max is None and self.min is None:
            raise ValueError("expected `max`, `min` or both")
        if self.max is not None and self.min is not None and self.min > self.max:
            raise ValueError("`min` must not be above `max`")
        return self


Times = Annotated[int, Field(strict=True, ge=0, le=10)]


class RetrySettings(Table):
    """Says how often a failed trial is tried again, by the reason for which it failed (nas.reasons.Reason)."""

    oom: Times = 0
    error: Times = 0
    timeout: Times = 0
    stale: Times = 0

    def again(self, reason: str, retry: int) -> bool:
        """Tells whether a trial that was tried again so many times before, and failed for that reason, is once more."""
        return retry < {"oom": self.oom, "error": self.error, "timeout": self.timeout, "stale": self.stale}.get(
            reason, 0
        )


class SearchSettings(Table):
    trials: Annotated[Count, Field(le=bounds.TRIALS)] = 24
    sampler: Literal["auto", "pareto", "tpe", "nsga2", "gp", "random"] = "auto"
    seed: int = Field(default=0, strict=True, ge=0, lt=2**31)
    stopping: Flag = True
    skip: Flag = True
    retries: RetrySettings = RetrySettings()
    confirm: int = Field(default=0, strict=True, ge=0, le=bounds.SEEDS)
    """The new seeds with which the front is trained again at the end of the search; 0 leaves that to `nas confirm`."""

    def rules(self) -> dict[str, str | bool]:
        """Returns what decides about a trial and may change while a study goes on."""
        return {"sampler": self.sampler, "stopping": self.stopping, "skip": self.skip}


class ResourceSettings(Table):
    """Describes what a trial gets. `processes_per_trial`: none is one for each whole GPU, and one on the CPU.

    `hardware` names the kind of a cluster's nodes, their label `nas.hardware`, on which all trials run.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    cpus_per_trial: Number = Field(default=1.0, ge=bounds.LEAST_CPU, le=bounds.PROCESSORS)
    gpus_per_trial: Number = Field(default=0.0, ge=0, le=bounds.PROCESSORS)
    processes_per_trial: Annotated[Count, Field(le=bounds.PROCESSORS)] | None = None
    hardware: str | None = Field(default=None, pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if 0 < self.gpus_per_trial < bounds.LEAST_GPU:
            raise ValueError(f"gpus_per_trial above 0 must be at least {bounds.LEAST_GPU}")
        if self.gpus_per_trial > 1 and self.gpus_per_trial % 1:
            raise ValueError("gpus_per_trial above 1 must be a whole number")
        return self
