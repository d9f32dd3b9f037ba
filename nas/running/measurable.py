"""Refuses a study whose objectives, limits or targets cannot be measured on this machine, before anything is made."""

import torch

from nas.errors import UsageError
from nas.measure import available_cpus
from nas.measure.energy import is_counted
from nas.measure.hardware import checked_device
from nas.running.target_measuring import COMPILED, device_of
from nas.settings.study_file import StudyFile
from nas.settings.target_settings import TargetSettings, base_of
from nas.space.parameter_settings import ParameterSettings
from nas.training.execution import can_compile, compiler

FIX = "leave it out of objectives and constraints, or run where the hardware counts it"


def require_measurable(file: StudyFile, device: str) -> None:
    """Raises UsageError for what this machine cannot measure: targets without their device, threads or compiler, and
    energy that nothing counts. A body of the user's own measures by itself.
    """
    _require_threads(file.measure.threads, "measure.threads")
    for i, target in enumerate(file.targets):
        _require_target(target, device, f"targets[{i}]")
    if file.trial or isinstance(file.space, ParameterSettings):
        return
    places = {target.of("energy_mj_per_token"): device_of(target, device) for target in file.targets}
    used = [(f"objectives[{i}]", objective.metric) for i, objective in enumerate(file.objective_list())]
    used += [(f"constraints[{i}]", constraint.metric) for i, constraint in enumerate(file.constraint_list())]
    for where, metric in used:
        place = checked_device(places.get(metric, device))
        if base_of(metric) == "energy_mj_per_token" and not is_counted(place):
            what = "GPU" if place.type == "cuda" else "processor"
            text = f"'{metric}' cannot be measured: nothing here counts the energy of the {what}"
            raise UsageError(text, code="not-measurable", where=f"{where}.metric", help=FIX)


def _require_target(target: TargetSettings, device: str, where: str) -> None:
    place = device_of(target, device)
    if place.startswith("cuda"):
        if not torch.cuda.is_available():
            text = f"target '{target.name}' is on cuda, but this machine has no GPU"
            help = "leave the target out, or run where there is one"
            raise UsageError(text, code="no-gpu", where=f"{where}.device", help=help)
        if target.dtype == "bfloat16" and not torch.cuda.is_bf16_supported(including_emulation=False):
            text = f"target '{target.name}' computes in bfloat16, which this GPU does not"
            raise UsageError(text, code="not-measurable", where=f"{where}.dtype", help="use float16 or float32")
    _require_threads(target.threads, f"{where}.threads")
    if target.runtime == COMPILED and not can_compile(place.partition(":")[0]):
        lacking = "no C++ compiler" if not compiler() else "no Triton"
        text = f"target '{target.name}' runs compiled, but there is {lacking} here"
        raise UsageError(text, code="no-compiler", where=f"{where}.runtime", help='install it, or use "eager"')


def _require_threads(threads: int, where: str) -> None:
    if threads > available_cpus():
        text = f"{where} = {threads}, but this process may use {available_cpus()} CPUs"
        help = f"use at most {available_cpus()}: more threads than CPUs make every timing longer"
        raise UsageError(text, code="no-slot", where=where, help=help)
