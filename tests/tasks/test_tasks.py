"""The table of tasks: each entry opens, and says of itself what its task does."""

from importlib import import_module

import pytest

from nas.results import METRICS
from nas.settings.task_settings import TASK_KINDS


@pytest.mark.parametrize("kind", TASK_KINDS)
def test_every_entry_names_a_task_and_metrics_that_there_are(kind):
    module, name = TASK_KINDS[kind].module.split(":")
    assert getattr(import_module(f"nas.tasks.{module}"), name)
    assert set(TASK_KINDS[kind].metrics) <= set(METRICS)
