"""Checks how a GPU trains: in bfloat16, compiled, two GPUs together, within the forecast memory, and after running out.

Each check is one function for the table of nas.running.gpu_checks.
"""

import gc
import time
from contextlib import closing
from statistics import median

import torch

from nas.measure.memory import MIB, peak_mib, weight_bytes
from nas.reasons import Reason
from nas.running.events import Failed
from nas.running.gpu_check import MODEL, CheckFailed, Figures, NotCounted, only_cuda, study_on
from nas.running.trial import event_of
from nas.settings.study_settings import TrainSettings
from nas.tasks import Task, open_task
from nas.training.data_parallel import DataParallel
from nas.training.execution import Execution, can_compile, has_bf16
from nas.training.memory_forecast import training_mib
from nas.training.stepper import Stepper

STEPS = 6
CLOSE_NATS, BF16_NATS = 2e-3, 0.05
"""The loss of each of STEPS steps may differ by so many nats from that of plain steps on one GPU; in bfloat16 that of
the first step, since training itself makes small differences large.
"""


def bfloat16(device: str) -> Figures:
    """Checks that a step in bfloat16 loses about what one in float32 does, and tells the time of both."""
    if not has_bf16(device):
        raise NotCounted(f"{device} has no bfloat16; training stays in float32")
    plain, plain_ms = _losses(_stepper(device))
    found, found_ms = _losses(_stepper(device, Execution(bf16=True)))
    apart = _apart(found[:1], plain[:1], BF16_NATS)
    losses = {"last_loss": found[-1], "last_loss_plain": plain[-1]}
    return {"nats_apart": apart, **losses, "plain_ms": plain_ms, "bf16_ms": found_ms}


def compiled_steps(device: str) -> Figures:
    """Checks that compiled steps lose what plain ones do, and tells the seconds of compiling and the time of a step."""
    if not can_compile(device):
        raise NotCounted("there is no C++ compiler or no Triton here; models run as they are written")
    plain, plain_ms = _losses(_stepper(device))
    started = time.monotonic()
    found, found_ms = _losses(_stepper(device, Execution(compiled=True)))
    seconds = time.monotonic() - started
    apart = _apart(found, plain, CLOSE_NATS)
    return {"nats_apart": apart, "seconds": round(seconds, 1), "plain_ms": plain_ms, "compiled_ms": found_ms}


def data_parallel(device: str) -> Figures:
    """Checks that two GPUs lose what one does with the same batches. On the CPU it takes two processes."""
    if device != "cpu" and torch.cuda.device_count() < 2:
        raise NotCounted("there is one GPU here; a trial on several was not tried")
    devices = ("cpu", "cpu") if device == "cpu" else ("cuda:0", "cuda:1")
    plain, plain_ms = _losses(_stepper(devices[0]))
    task, settings = study_on(device).task, _settings()
    with closing(DataParallel(task, devices)) as team:
        stepper, told = _stepper(devices[0]), list[float]()
        training = {
            "architecture": MODEL.canonical(),
            "settings": settings.model_dump(mode="json"),
            "seed": 0,
            "learning_rate": None,
            "execution": {},
        }
        with team.led():
            stepper.join(team.begin(training))
            team.steps(STEPS)
            started = time.perf_counter()
            told = torch.stack([stepper.take() for _ in range(STEPS)]).tolist()
            parallel_ms = 1000 * (time.perf_counter() - started) / STEPS
    return {"nats_apart": _apart(told, plain, CLOSE_NATS), "plain_ms": plain_ms, "parallel_ms": parallel_ms}


def memory_forecast(device: str) -> Figures:
    """Checks that a training needs no less than the forecast, and not far more."""
    stepper = _stepper(device)
    forecast = training_mib(MODEL, stepper.task, stepper.settings, stepper.execution)
    peak = peak_mib(lambda: [stepper.take().item() for _ in range(2)], stepper.model)
    if not 0.95 * forecast <= peak <= 3 * forecast + 64:  # cuBLAS keeps up to 64 MiB of scratch space
        raise CheckFailed(f"training peaks at {peak:.1f} MiB, where {forecast:.1f} MiB were forecast")
    return {"forecast_mib": forecast, "peak_mib": peak, "weights_mib": weight_bytes(stepper.model) / MIB}


def out_of_memory(device: str) -> Figures:
    """Checks that running out of memory is known as such, and that a training right after it works."""
    place = only_cuda(device)
    held = list[torch.Tensor]()
    block = torch.cuda.get_device_properties(place).total_memory // 4
    try:
        held = [torch.empty(block, dtype=torch.uint8, device=place) for _ in range(5)]
    except torch.OutOfMemoryError as error:
        event = event_of(error)
    else:
        raise CheckFailed(f"{len(held)} quarters of the memory were given")
    if not (isinstance(event, Failed) and event.reason == Reason.OOM):
        raise CheckFailed(f"running out of memory counts as {event}")
    gc.collect()
    torch.cuda.empty_cache()
    losses, step_ms = _losses(_stepper(device))
    return {"loss": losses[-1], "step_ms": step_ms, "held_mib": torch.cuda.memory_allocated(place) / MIB}


def _settings() -> TrainSettings:
    return study_on("cpu").train


def _stepper(device: str, execution: Execution | None = None) -> Stepper:
    """Returns a small training, plain unless told otherwise, the same at every call."""
    task: Task = open_task(study_on("cpu").task)
    found = Stepper(MODEL, task, _settings(), seed=0, device=device)
    found.execution = execution or Execution()
    return found


def _losses(stepper: Stepper) -> tuple[list[float], float]:
    """Returns the loss of each of STEPS steps, and the median time of the later ones in milliseconds."""
    losses, times = list[float](), list[float]()
    for _ in range(STEPS):
        started = time.perf_counter()
        losses.append(stepper.take().item())
        times.append(1000 * (time.perf_counter() - started))
    return losses, median(times[STEPS // 2 :])


def _apart(found: list[float], plain: list[float], most: float) -> float:
    """Returns the largest difference of two series of losses. Raises CheckFailed where it is too large."""
    apart = max(abs(ours - theirs) for ours, theirs in zip(found, plain, strict=True))
    if not apart <= most:  # NaN is not close either
        raise CheckFailed(f"losses differ by {apart:.2g} nats from plain steps", detail=f"> {most}")
    return apart
