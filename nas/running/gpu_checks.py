"""Checks what needs a GPU. Each check is one function that returns figures or raises; `nas doctor --gpu` runs them all.

To add a check, write a function that takes the device's name, and add a line to `CHECKS`. Those of training stand in
nas.running.gpu_training_checks. Each check runs in a process of its own
(`python -m nas.running.gpu_checks NAME DEVICE`), since an error on a GPU may leave a process unable to use it.

Shapes: B batch, T tokens, D hidden.
"""

import copy
import json
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from nas.attention import flex
from nas.errors import NasError, UsageError
from nas.kinds import ATTENTION_SPECS, BlockSparse, Kind, Position, Window
from nas.measure import DeviceLock
from nas.measure.energy import energy_mj
from nas.measure.hardware import checked_device, gpu_uuid
from nas.measure.memory import MIB, peak_mib, weight_bytes
from nas.models import build as build_model
from nas.running.cpu_reference import difference, is_fused, kind_difference
from nas.running.gpu_check import MODEL, Check, CheckFailed, Figures, NotCounted, only_cuda, study_on
from nas.running.gpu_training_checks import bfloat16, compiled_steps, data_parallel, memory_forecast, out_of_memory
from nas.running.measuring import measure_alone
from nas.running.placement import resolve_device
from nas.running.trial import share_gpu
from nas.tasks import open_task

CLOSE = 2e-3
"""Outputs and gradients may differ from the CPU's by at most this share of the largest of them."""
ENERGY_SECONDS = 1.0
LEAST_WATTS, MOST_WATTS = 1.0, 3000.0
SHARE = 0.1


def device_arguments(device: str) -> Figures:
    """Checks that device names are understood, and that a model gives the same results there as on the CPU."""
    place = checked_device(device)
    count = torch.cuda.device_count() if place.type == "cuda" else 0
    for wrong in (f"cuda:{count}", "gpu", f"{device}:x"):
        _refused(wrong)
    torch.manual_seed(0)
    model, tokens_BT = build_model(MODEL, 65, 64), torch.randint(65, (2, 64))
    expected, found = model(tokens_BT), copy.deepcopy(model).to(place)(tokens_BT.to(place))
    apart = difference(found, expected)
    _close("logits", apart)
    chosen, counted = resolve_device(study_on("auto" if count else "cpu"), None)
    if chosen != place.type:
        raise CheckFailed(f"resources.device = 'auto' chooses {chosen}", help="look at what torch sees of the GPU")
    return {"gpus": counted, "logits_difference": apart, "uuid": gpu_uuid(place) if count else "none"}


def kinds(device: str) -> Figures:
    """Checks that each attention kind gives the CPU's outputs and gradients there."""
    kinds = {kind: spec.model_validate({"kind": kind}) for kind, spec in ATTENTION_SPECS.items() if kind != "none"}
    found = {name: kind_difference(kind, device) for name, kind in kinds.items()}
    for name, apart in found.items():
        _close(name, apart)
    return {"kinds": len(found), "most_difference": max(found.values())}


def flex_attention(device: str) -> Figures:
    """Checks the fused form of attention to few keys, and its backward pass, at odd lengths, with ALiBi and with
    padding.
    """
    specs: list[tuple[Kind, Position]] = [
        (Window(heads=2, window=64), "rope"),
        (Window(heads=4, window=64, kv_heads=2, global_tokens=3), "alibi"),
        (BlockSparse(heads=2, block=32), "alibi"),
    ]
    length, figures = flex.LONG + 37 if device != "cpu" else 133, dict[str, float | str]()
    for spec, position in specs:
        if device != "cpu" and not is_fused(spec, device, length, position):
            raise CheckFailed(f"{spec.kind} is not computed by FlexAttention there", help="pip install triton")
        for padded in (False, True):
            before = time.monotonic()
            apart = kind_difference(spec, device, length, position, padded)
            name = f"{spec.kind}_{position}{'_padded' if padded else ''}"
            _close(name, apart)
            figures |= {f"{name}_difference": apart, f"{name}_seconds": round(time.monotonic() - before, 1)}
    return figures


def memory(device: str) -> Figures:
    """Checks that the memory peak counts what is allocated, and that a model's peak is near the one computed on the
    CPU.
    """
    place = checked_device(device)
    torch.manual_seed(0)
    model, tokens_BT = build_model(MODEL, 65, 256), torch.randint(65, (8, 256))
    there = copy.deepcopy(model).to(place)
    block = 64 * MIB
    counted = peak_mib(lambda: torch.empty(block, dtype=torch.uint8, device=place).sum().item(), there)
    exact = (block + weight_bytes(there)) / MIB
    if not 0.99 * exact <= counted <= 1.1 * exact + 1:
        raise CheckFailed(f"{exact:.1f} MiB were allocated and {counted:.1f} MiB counted")
    ours, theirs = (
        peak_mib(lambda m=m, t=t: m(t).logsumexp(-1).mean().backward(), m)  # type: ignore[misc]
        for m, t in ((model, tokens_BT), (there, tokens_BT.to(place)))
    )
    if not 0.5 * ours <= theirs <= 2 * ours + 64:  # cuBLAS keeps up to 64 MiB of scratch space
        raise CheckFailed(f"a training step peaks at {theirs:.1f} MiB there, and at {ours:.1f} MiB on the CPU")
    return {"block_mib": counted, "training_mib": theirs, "training_mib_cpu": ours}


def memory_share(device: str) -> Figures:
    """Checks that a trial with a fraction of a GPU gets no more memory than its share, and may use all of it."""
    place = only_cuda(device)
    whole = torch.cuda.get_device_properties(place).total_memory
    share_gpu(device, SHARE)
    torch.empty(int(0.5 * SHARE * whole), dtype=torch.uint8, device=place)
    try:
        torch.empty(int(1.5 * SHARE * whole), dtype=torch.uint8, device=place)
    except torch.OutOfMemoryError:
        return {"memory_gib": round(whole / 2**30, 1), "share": SHARE}
    raise CheckFailed(f"a process with {SHARE:g} of the memory was given {1.5 * SHARE:g} of it")


def energy(device: str) -> Figures:
    """Checks that the energy counter moves while the device works, by a plausible power."""
    place = checked_device(device)
    x_DD = torch.randn(2048, 2048, device=place)

    def work() -> None:
        until = time.monotonic() + ENERGY_SECONDS
        while time.monotonic() < until:
            (x_DD @ x_DD).sum().item()

    work()
    spent = energy_mj(work, place)
    if spent is None:
        raise NotCounted("nothing counts energy here, or lets it be read; energy_mj_per_token is then absent")
    watts = spent / 1000 / ENERGY_SECONDS
    if not LEAST_WATTS < watts < MOST_WATTS:
        raise CheckFailed(f"{watts:.1f} W is not a plausible power", help="look at nvidia-smi")
    return {"watts": watts}


def measuring(device: str) -> Figures:
    """Measures an architecture as a trial does."""
    study = study_on("cpu" if device == "cpu" else "cuda")
    metrics = measure_alone(MODEL, open_task(study.task), study, device, DeviceLock(device))
    wanted = ("prefill_ms", "decode_ms_per_token", "peak_inference_mib", "peak_training_mib", "weights_mib")
    if missing := [name for name in wanted if not metrics.get(name, 0.0) > 0]:
        raise CheckFailed(f"not measured: {', '.join(missing)}")
    return {name: metrics[name] for name in (*wanted, "contended")}


def two_trials(device: str) -> Figures:
    """Checks that a search with half a GPU for each trial runs two at once, and that all end well."""
    from nas.running import driver
    from nas.running.launch import Launch

    now, most, ended = set[int](), 0, list[str]()

    def observe(event: dict[str, Any]) -> None:
        nonlocal most
        if event["type"] == "started":
            now.add(event["trial"])
            most = max(most, len(now))
        elif event["type"] == "finished":
            now.discard(event["trial"])
            ended.append(event["reason"] or event["state"])

    study = study_on("cpu" if device == "cpu" else "cuda")
    with tempfile.TemporaryDirectory(prefix="nas-doctor-", ignore_cleanup_errors=True) as folder:
        launch = Launch(executor="ray", cpus=2, gpus=1)
        outcome = driver.run(study, Path(folder) / "doctor", launch, observe)
    if ended.count("COMPLETE") < study.search.trials:
        raise CheckFailed(f"of {study.search.trials} trials ended {', '.join(ended) or 'none'}")
    if most < 2:
        raise CheckFailed("two trials never ran at once")
    return {"trials": len(ended), "most_at_once": most, "seconds": round(outcome.seconds, 1)}


CHECKS = (
    Check("device", "names of devices; logits against the CPU's", 40, device_arguments),
    Check("kinds", "every kind of attention, forward and backward, against the CPU", 60, kinds),
    Check("flex", "FlexAttention and its backward, compiled, against the CPU", 150, flex_attention),
    Check("bf16", "training in bfloat16 against float32", 30, bfloat16),
    Check("compiled", "compiled steps against plain ones, and the seconds that compiling takes", 90, compiled_steps),
    Check("parallel", "a trial on two GPUs against one", 60, data_parallel),
    Check("memory", "peak memory by the caching allocator", 30, memory),
    Check("memory_share", "a trial's share of the memory is enforced", 30, memory_share),
    Check("forecast", "the memory forecast for a training against its peak", 30, memory_forecast),
    Check("oom", "a trial that runs out of memory, and the next one", 30, out_of_memory),
    Check("energy", "the energy counter", 30, energy),
    Check("measuring", "latency, memory and FLOPs as a trial measures them", 60, measuring),
    Check("two_trials", "two trials on one GPU", 180, two_trials),
)
"""The checks in the order in which they run; together they take at most fourteen minutes."""


def _refused(device: str) -> None:
    try:
        checked_device(device)
    except UsageError:
        return
    raise CheckFailed(f"the device '{device}' is accepted, but does not exist")


def _close(what: str, apart: float) -> None:
    if not apart <= CLOSE:  # NaN is not close either
        raise CheckFailed(f"{what}: differs from the CPU by {apart:.2g} of the largest value", detail=f"> {CLOSE}")


def outcome_of(check: Check, device: str) -> dict[str, Any]:
    """Runs one check and returns its outcome as plain data: level, text, fix, figures. It raises nothing."""
    try:
        figures = check.run(device)
    except NotCounted as error:
        return {"level": "warn", "text": error.message, "fix": error.help, "figures": {}}
    except NasError as error:
        return {"level": "fail", "text": error.message, "fix": error.help, "figures": {}}
    except Exception as error:  # noqa: BLE001  any error is reported, and the other checks continue
        said = (str(error).strip().splitlines() or [""])[0][:300]
        return {"level": "fail", "text": f"{type(error).__name__}: {said}", "fix": "", "figures": {}}
    return {"level": "ok", "text": check.text, "fix": "", "figures": dict(figures)}


def main(arguments: Iterable[str]) -> None:
    """Runs one check and prints its outcome as the last line of standard output, as JSON."""
    name, device = arguments
    check = next(check for check in CHECKS if check.name == name)
    sys.stdout.write(json.dumps(outcome_of(check, device)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
