"""Defines what a check of a GPU is, how it fails, and the small study and model that several checks use."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from nas.architecture import Architecture
from nas.errors import NasError
from nas.measure.hardware import checked_device
from nas.settings.study_file import StudyFile, parse

Figures = Mapping[str, float | str]

STUDY = """
name = "doctor"
[task]
kind = "selective_copy"
context = 32
[space]
depth = [1, 2]
hidden = [32, 64]
[[space.attention]]
kind = "softmax"
heads = [1, 2]
[[space.attention]]
kind = "linear"
heads = [1, 2]
[train]
steps = 60
batch = 16
rungs = [1.0]
[measure]
repeats = 10
[[objectives]]
metric = "val_loss"
[[objectives]]
metric = "decode_ms_per_token"
[search]
trials = 4
sampler = "random"
skip = false
[resources]
gpus_per_trial = 0.5
"""
MODEL = Architecture.model_validate(
    {"hidden": 64, "blocks": [{"attention": {"kind": "softmax", "heads": 4}}, {"attention": {"kind": "linear"}}]}
)


class CheckFailed(NasError):
    """Says that a result is wrong."""

    code = "gpu-check"


class NotCounted(NasError):
    """Says that the hardware does not count this; nothing is wrong."""

    code = "not-counted"


@dataclass(frozen=True)
class Check:
    """Holds one line of the table. `seconds` is the time after which the check is ended."""

    name: str
    text: str
    seconds: float
    run: Callable[[str], Figures]


def study_on(device: str) -> StudyFile:
    return parse(STUDY, (f'resources.device="{device}"',))


def only_cuda(device: str) -> torch.device:
    """Returns the device. Raises NotCounted where it is no GPU."""
    place = checked_device(device)
    if place.type != "cuda":
        raise NotCounted(f"{device} has no memory of its own")
    return place
