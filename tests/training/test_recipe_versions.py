"""The versions of the recipe start a training as they say."""

import torch

from nas.architecture import Architecture
from nas.models.layers import Sinusoidal
from nas.settings.study_settings import TrainSettings
from nas.settings.task_settings import AssociativeRecall
from nas.tasks import open_task
from nas.training.stepper import Stepper

POSITIONS = "stack.positions.0.places_CD"


def test_learned_positions_start_as_sinusoids_in_recipe_2_and_drawn_in_recipe_1() -> None:
    block = {"attention": {"kind": "softmax", "heads": 2}, "position": "learned"}
    architecture = Architecture.model_validate({"hidden": 8, "blocks": [block]})
    task = open_task(AssociativeRecall(kind="associative_recall", context=16, vocabulary=32, pairs=3))
    first, second = (
        Stepper(architecture, task, TrainSettings(recipe=recipe), seed=0).model.state_dict() for recipe in (1, 2)
    )
    torch.testing.assert_close(second.pop(POSITIONS), Sinusoidal(8, task.context).places_CD)
    assert first.pop(POSITIONS).std() < 0.2
    torch.testing.assert_close(first, second, rtol=0, atol=0)
