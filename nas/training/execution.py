"""Decides how steps are computed on a device: in which precision, and compiled or as written."""

import importlib.util
import os
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import nn

from nas.errors import UsageError
from nas.settings.study_settings import TrainSettings

BACKEND = "inductor"
"""The translator that torch.compile uses."""


@dataclass(frozen=True)
class Execution:
    """Says how steps are computed. Equal choices repeat a training; other choices change it by rounding.

    `bf16`: matrix products and attention in bfloat16, weights and their updates in float32 (torch.autocast).
    `compiled`: the model runs as torch.compile has translated it.
    """

    bf16: bool = False
    compiled: bool = False

    def told(self) -> dict[str, float]:
        """Returns the choices that differ from the plain ones, as a trial's metrics store them."""
        return {name: 1.0 for name, chosen in asdict(self).items() if chosen}

    @classmethod
    def from_stored(cls, stored: Any) -> Self:
        """Returns the choices that `told` gave; plain ones where a checkpoint has none."""
        known = stored if isinstance(stored, Mapping) else {}
        return cls(**{name: bool(known.get(name)) for name in ("bf16", "compiled")})

    def around_loss(self, device: str) -> AbstractContextManager[object]:
        """Opens what a forward pass on that device needs around it."""
        return torch.autocast(device.partition(":")[0], torch.bfloat16) if self.bf16 else nullcontext()


def has_bf16(device: str) -> bool:
    """Tells whether the device computes in bfloat16 by itself. CPUs are left out: those without it emulate it."""
    return device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)


def chosen_execution(settings: TrainSettings, device: str) -> Execution:
    """Returns how a new training on that device computes its steps, before it is decided whether to compile."""
    return Execution(bf16=settings.precision == "auto" and has_bf16(device))


def compiler() -> str:
    """Returns the path of the C++ compiler that torch.compile would call; empty where there is none."""
    names = (os.environ.get("CXX", ""), "g++", "c++", "clang++")
    return next((path for name in names if name and (path := shutil.which(name))), "")


def can_compile(device: str) -> bool:
    """Tells whether what compiling needs is there: a C++ compiler, and on a GPU Triton."""
    return bool(compiler()) and (device == "cpu" or importlib.util.find_spec("triton") is not None)


def require_compiler(settings: TrainSettings, device: str) -> None:
    """Raises UsageError where the settings ask for what cannot be done here: `compile = true`."""
    if settings.compile is True and not can_compile(device):
        lacking = "no C++ compiler" if not compiler() else "no Triton"
        text, help = f"train.compile = true, but there is {lacking} here", 'install it, or set train.compile = "auto"'
        raise UsageError(text, code="no-compiler", where="train.compile", help=help)


def translated(model: nn.Module) -> nn.Module:
    """Returns the model as compiled code with the same weights. Its first call compiles it, in this very process."""
    options: dict[str, Any] | None = {"compile_threads": 1} if BACKEND == "inductor" else None
    found: nn.Module = torch.compile(model, backend=BACKEND, options=options)  # type: ignore[assignment]
    return found
