"""Computes what is known of an architecture without measuring it: its costs for `[measure]`, and for the targets."""

from collections.abc import Mapping

from nas.architecture import Architecture
from nas.measure.costs import Costs
from nas.running.architecture_features import Describe
from nas.settings.study_file import StudyFile
from nas.settings.target_settings import DTYPE_BYTES, TargetSettings
from nas.tasks import Task

OF_TARGETS = ("decode_state_kib", "flops_per_token")
"""The costs that depend on a target."""


def known_costs(file: StudyFile, task: Task) -> Describe:
    """Returns what computes the costs of an architecture, by name; of a target, those that the study judges."""
    own = Costs(task.vocabulary, task.context, file.measure.batch, task.head)
    judged = {each.metric for each in file.judged()}
    targets = [target for target in file.targets if judged & {target.of(name) for name in OF_TARGETS}]
    if not targets:
        return own.metrics
    costs = {
        target: Costs(task.vocabulary, target.context or task.context, target.batch, task.head) for target in targets
    }

    def known(architecture: Architecture) -> Mapping[str, float]:
        told = own.metrics(architecture)
        for target, its_own in costs.items():
            found = _on(target, its_own.metrics(architecture))
            told |= {name: value for name, value in found.items() if name in judged}
        return told

    return known


def _on(target: TargetSettings, costs: Mapping[str, float]) -> dict[str, float]:
    """Returns costs, which are those of float32, in the target's numbers: a state has the dtype of the weights."""
    scale = {"decode_state_kib": DTYPE_BYTES[target.dtype] / 4, "flops_per_token": 1.0}
    return {target.of(name): costs[name] * factor for name, factor in scale.items() if name in costs}
