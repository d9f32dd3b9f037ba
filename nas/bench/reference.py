"""Computes the reference point of a study's hypervolume: guessing evenly, at the cost of the largest architecture."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from nas.architecture import Architecture
from nas.results import Objective
from nas.settings.study_file import StudyFile
from nas.space.architecture_space import Space
from nas.tasks import Task, model_of
from nas.tasks.text import TextTask

MINIMAL_SCORE = 0.1
"""The least score, of 100: chance has none, and hypervolume counts from a score above 0."""
PASSES = 3
"""Over all choices, at most, while any of them still makes the architecture larger."""


def uniform(task: Task) -> dict[str, float]:
    """Returns the scores of guessing evenly; shares of right answers are those of one token, or one text."""
    share = math.exp(-task.guessing)
    return {
        "val_loss": task.guessing,
        "bits_per_char": task.bits_per_char("val", task.guessing) if isinstance(task, TextTask) else math.nan,
        "perplexity": 1 / share,
        "val_accuracy": share,
        "macro_f1": share,
        "exact_match": share,
        "f1": share,
        "bleu": MINIMAL_SCORE,
        **dict.fromkeys(("chrf", "rouge_1", "rouge_2", "rouge_l"), MINIMAL_SCORE),
    }


def reference(objectives: Sequence[Objective], task: Task, largest: Mapping[str, float]) -> dict[str, float]:
    """Returns, for each objective, the uniform score where there is one, or else the largest architecture's cost."""
    guessed = uniform(task)
    return {o.metric: guessed.get(o.metric, largest.get(o.metric, math.nan)) for o in objectives}


def costs_training(objectives: Sequence[Objective], task: Task) -> bool:
    """Tells whether an objective of the largest architecture is known only when it has been trained."""
    guessed = uniform(task)
    return any(o.metric not in guessed and not o.means.cheap for o in objectives)


def largest(file: StudyFile, task: Task) -> Architecture:
    """Returns the architecture with the most trained parameters, and of equals the one with the larger numbers.

    It is found choice by choice, starting with every number at its largest. That is exact where a choice's effect does
    not depend on the others, as with the blocks of a stack.
    """
    found = [_climb(Space({family: settings}), task) for family, settings in file.spaces().items()]
    return max(found, key=lambda architecture: parameters(architecture, task))


class _Largest:
    """Chooses what is settled, or else the largest number or the first option; `offered` tells what there was."""

    def __init__(self, settled: Mapping[str, Any]) -> None:
        self.settled, self.offered = settled, dict[str, Sequence[Any]]()

    def suggest_categorical(self, name: str, choices: Sequence[Any], /) -> Any:
        self.offered[name] = choices
        if name in self.settled and self.settled[name] in choices:
            return self.settled[name]
        numbers = all(isinstance(choice, (int, float)) and not isinstance(choice, bool) for choice in choices)
        return max(choices) if numbers else choices[0]


def _climb(space: Space, task: Task) -> Architecture:
    settled: dict[str, Any] = {}
    chooser = _Largest(settled)
    best = space.suggest(chooser)
    most = parameters(best, task)
    for _ in range(PASSES):
        before = most
        for name, choices in list(chooser.offered.items()):
            for choice in choices:
                attempt = _Largest({**settled, name: choice})
                architecture = space.suggest(attempt)
                if (params := parameters(architecture, task)) > most:
                    settled, chooser, best, most = dict(attempt.settled), attempt, architecture, params
        if most == before:
            break
    return best


def parameters(architecture: Architecture, task: Task) -> int:
    """Counts trained parameters on a model without memory."""
    with torch.device("meta"):
        model = model_of(architecture, task)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
