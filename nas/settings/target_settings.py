"""Reads the `[[targets]]` tables of a study file: ways in which a model will be run, each with metrics of its own."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from nas import bounds
from nas.architecture import Family
from nas.errors import InvalidStudyFile
from nas.measurement import MAIN
from nas.results import METRICS, Metric
from nas.settings.study_settings import Batch, MeasureSettings
from nas.settings.task_settings import TaskSettings
from nas.settings.workload_check import check_prompt
from nas.toml_table import Count, Table

TIMED = ("prefill_ms", "decode_ms_per_token", "generation_ms", "energy_mj_per_token")
COUNTED = ("peak_inference_mib", "weights_mib", "decode_state_kib", "flops_per_token")
"""Every target has these metrics too, as far as the model has them: METRIC@TARGET."""
RATIOS = ("ms", "mJ", "MiB", "FLOP")
"""Ratios of metrics in these units count; a decode state may be 0."""
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
Runtime = Literal["eager", "compile"]


def _free(name: str) -> str:
    if name == MAIN:
        raise ValueError(f"'{MAIN}' is the workload of [measure]")
    return name


class TargetSettings(Table):
    """Describes one way to run a model: on what, with which workload, in which numbers and by which runtime.

    `device`: "auto" is that of the study. `context`: none is the task's; the timed model is built for it. `prompt`:
    none is half the context, or what is typical of the task. `runtime`: "compile" runs the model as torch.compile
    translates it, and is measured only where all other limits hold.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,31}$"), AfterValidator(_free)]
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[Count, Field(le=bounds.THREADS)] = 1
    batch: Batch = 1
    context: Annotated[Count, Field(ge=2, le=bounds.CONTEXT)] | None = None
    prompt: Count | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    runtime: Runtime = "eager"

    def measure(self, measure: MeasureSettings) -> MeasureSettings:
        """Returns the settings of [measure] with the target's workload in place of theirs."""
        return measure.model_copy(update={"batch": self.batch, "prompt": self.prompt, "threads": self.threads})

    def of(self, metric: str) -> str:
        """Returns the name of that metric on this target."""
        return f"{metric}@{self.name}"


Targets = Annotated[tuple[TargetSettings, ...], Field(max_length=bounds.TARGETS)]


def target_metrics(targets: Sequence[TargetSettings]) -> dict[str, Metric]:
    """Returns the metrics that these targets have, as a study's own."""
    return {
        target.of(name): Metric(
            target.of(name),
            METRICS[name].goal,
            METRICS[name].unit,
            f"{METRICS[name].text}, on the target {target.name}",
            cheap=True,
            exact=METRICS[name].exact,
            log=METRICS[name].unit in RATIOS,
        )
        for target in targets
        for name in (*TIMED, *COUNTED)
    }


def base_of(metric: str) -> str:
    """Returns the name of a target's metric without the target; any other name as it is."""
    return metric.partition("@")[0]


def is_timed(metric: str, known: Mapping[str, Metric] = METRICS) -> bool:
    """Tells whether our own measuring takes that metric, and noise is in it."""
    base = known.get(base_of(metric))
    return base is not None and base.cheap and not base.exact


def at_target(metrics: Mapping[str, float], target: str) -> dict[str, float]:
    """Returns the metrics under the names that they have on a target, with their spreads: prefill_ms_p10 becomes
    prefill_ms@TARGET_p10. Those that no target has are left out.
    """
    found = {}
    for name, value in metrics.items():
        base = next((base for base in (*TIMED, *COUNTED) if name == base or name.startswith(f"{base}_")), None)
        if base is not None:
            found[f"{base}@{target}{name.removeprefix(base)}"] = value
    return found


def check_targets(
    targets: Sequence[TargetSettings], task: TaskSettings, family: Sequence[Family], own_body: bool
) -> None:
    """Raises InvalidStudyFile for targets that no model of the study has, and for two of one name."""
    seen = set[str]()
    for i, target in enumerate(targets):
        place = f"targets[{i}]"
        if own_body:
            text = "a body of your own measures by itself, and has no targets"
            raise InvalidStudyFile(text, where=place, help="leave it out, and declare [metrics] of your own")
        if target.name in seen:
            text = f"two targets are called '{target.name}'"
            raise InvalidStudyFile(text, where=f"{place}.name", help="give each a name of its own")
        seen.add(target.name)
        context = target.context or task.context
        if target.batch * context > bounds.TOKENS_AT_ONCE:
            text = f"batch {target.batch:,} × context {context:,} is more than {bounds.TOKENS_AT_ONCE:,}"
            help = f"use at most {bounds.TOKENS_AT_ONCE // context:,}, or a smaller context"
            raise InvalidStudyFile(text, where=f"{place}.batch", help=help)
        check_prompt(target.prompt, context, family, f"{place}.prompt")
