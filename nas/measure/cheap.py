"""Measures the cheap metrics of one model: all that can be known of an architecture without training it."""

from collections.abc import Callable
from dataclasses import asdict, replace

import torch
from torch import nn

from nas import readings
from nas.measure.compiled import warm_up
from nas.measure.contention import TOLERATED as LOAD_TOLERATED
from nas.measure.contention import LoadWatch
from nas.measure.energy import energy_mj
from nas.measure.exclusive import machine_folder
from nas.measure.generation import Generation, Generator, Reader, Workload
from nas.measure.hardware import checked_device
from nas.measure.latency import DECODE_READINGS, DEPTHS, SAMPLE, Latency, StoppingRule, latency, never, quiet, sampled
from nas.measure.memory import MIB, peak_meter, peak_mib, weight_bytes
from nas.measure.pace import TOLERATED as PACE_TOLERATED
from nas.measure.pace import Pace
from nas.measure.protocol import LatencyProtocol, Runtime
from nas.measurement import MAIN, Condition, TimedMetrics
from nas.models.seq2seq import Seq2Seq
from nas.settings.protocol_versions import VERSIONS
from nas.settings.study_settings import MeasureSettings

KIB = 2**10
ENERGY_SECONDS = 0.5
"""The least seconds over which energy is counted, since energy counters move in steps of up to 100 ms."""


def measure(
    model: nn.Module,
    vocabulary: int,
    context: int,
    settings: MeasureSettings,
    device: str,
    training_step: Callable[[], object] | None = None,
    typical: tuple[int, int] | None = None,
    should_stop: Callable[[], bool] = never,
) -> TimedMetrics:
    """Returns what `times` and then `counts` return. The caller holds `DeviceLock.measuring()`."""
    timed = times(model, vocabulary, context, settings, device, typical, should_stop)
    counted = counts(model, vocabulary, context, settings, device, training_step, typical)
    return replace(timed, metrics={**timed.metrics, **counted})


def times(
    model: nn.Module,
    vocabulary: int,
    context: int,
    settings: MeasureSettings,
    device: str,
    typical: tuple[int, int] | None = None,
    should_stop: Callable[[], bool] = never,
    runtime: Runtime = "eager",
) -> TimedMetrics:
    """Returns what has to be timed, by names in `nas.results.METRICS`, with spreads, and `contended` (1.0 or 0.0).
    Where `contended` is 1.0, the fastest round is stored as NAME_best too. Its `measurement` has one entry, MAIN.

    The model is on `device` already and stays unchanged, and the caller holds `DeviceLock.measuring()`. `typical` gives
    the tokens that are read at once, and those then written one by one; by default each is half of the context. A model
    that does not write reads them all. `runtime` says how the model runs already, and is stored. Raises
    MeasuringStopped soon after `should_stop` says so.
    """
    generator, workload, place = _prepared(model, vocabulary, context, settings, device, typical)
    with quiet(model, settings.threads):
        timed, energy, conditions = _timed(generator, workload, settings, place, should_stop)
    contended = any(condition.name != "interval" for condition in conditions)
    metrics: dict[str, float] = {}
    for name, measurement in timed.measurements.items():
        metrics |= measurement.metrics(name)
    metrics |= {"contended": float(contended), **timed.depths}
    if energy is not None:
        metrics["energy_mj_per_token"] = energy
    if contended:
        metrics |= timed.best
    told = {
        "protocol": _protocol(model, generator, workload, settings, place, runtime).stored(),
        "conditions": [asdict(condition) for condition in conditions],
        "readings": {name: readings.kept(rounds) for name, rounds in timed.readings.items()},
        "per_round": {name: len(rounds[0]) for name, rounds in timed.readings.items()},
        "rounds": len(timed.rounds),
    }
    return TimedMetrics(metrics, {MAIN: told})


def _protocol(
    model: nn.Module,
    generator: Generator,
    workload: Workload,
    settings: MeasureSettings,
    place: torch.device,
    runtime: Runtime,
) -> LatencyProtocol:
    rule = StoppingRule.of(settings)
    if not workload.generates:
        rounds = "whole texts"
    elif not VERSIONS[settings.protocol].alike:
        rounds = f"{DECODE_READINGS} tokens or more, from where the last round ended"
    elif sampled(generator, workload):
        rounds = f"{SAMPLE} tokens at each of {DEPTHS} depths"
    else:
        rounds = "whole generations"
    return LatencyProtocol(
        version=settings.protocol,
        device=place.type,
        dtype=str(next(model.parameters()).dtype).removeprefix("torch."),
        threads=settings.threads,
        runtime=runtime,
        batch=workload.batch,
        prompt=workload.prompt,
        generated=workload.generated if workload.generates else 0,
        rounds=rounds,
        least_rounds=rule.least,
        most_rounds=rule.most,
        precision=rule.precision,
        seconds=rule.seconds,
    )


def prepare(
    model: nn.Module,
    vocabulary: int,
    context: int,
    settings: MeasureSettings,
    device: str,
    typical: tuple[int, int] | None = None,
) -> None:
    """Runs the workload until everything that a compiled model needs is compiled. Others may run beside."""
    generator, workload, _ = _prepared(model, vocabulary, context, settings, device, typical)
    with quiet(model, settings.threads):
        warm_up(generator, workload)


def counts(
    model: nn.Module,
    vocabulary: int,
    context: int,
    settings: MeasureSettings,
    device: str,
    training_step: Callable[[], object] | None = None,
    typical: tuple[int, int] | None = None,
) -> dict[str, float]:
    """Returns memory and sizes, which other load on the machine does not change; `typical` is that of `times`.

    `training_step` does one forward and backward pass and one optimiser step on this very model, which changes it:
    count a copy. Without it the model stays unchanged, and `peak_training_mib` is absent.
    """
    generator, workload, _ = _prepared(model, vocabulary, context, settings, device, typical)
    with quiet(model, settings.threads):
        metrics = {"peak_inference_mib": peak_inference_mib(model, workload)} | _sizes(model, generator, context)
    if workload.generates:
        metrics["decode_state_kib"] = generator.state_bytes(settings.batch, context) / KIB
    if training_step is not None:
        metrics["peak_training_mib"] = peak_training_mib(model, training_step)
    return metrics


def _prepared(
    model: nn.Module,
    vocabulary: int,
    context: int,
    settings: MeasureSettings,
    device: str,
    typical: tuple[int, int] | None,
) -> tuple[Generator, Workload, torch.device]:
    generator = model if isinstance(model, Generator) else Reader(model)
    place = checked_device(device)
    halves = (context // 2, context - context // 2)
    answers = isinstance(model, Seq2Seq)
    workload = _workload(vocabulary, typical or halves, settings, place, generator is model, answers)
    return generator, workload, place


def _timed(
    generator: Generator,
    workload: Workload,
    settings: MeasureSettings,
    device: torch.device,
    should_stop: Callable[[], bool],
) -> tuple[Latency, float | None, list[Condition]]:
    """Returns the times, the energy per token, and the conditions that were not met; notes the machine's pace where it
    was full.
    """
    pace = Pace(machine_folder())
    with LoadWatch(device) as load:
        timed = latency(generator, workload, settings, pace, should_stop=should_stop)
        energy = _energy_mj_per_token(generator, workload, timed.decode_ms.median) if timed.decode_ms else None
    if not timed.slowed:
        pace.remember()
    conditions = [
        Condition("interval", measurement.precision, settings.precision, name)
        for name, measurement in timed.measurements.items()
        if VERSIONS[settings.protocol].to_precision and measurement.precision > settings.precision
    ]
    if timed.slowed:
        slowest = max(r.loop_ns for r in timed.rounds) / pace.best_ns
        conditions.append(Condition("pace", slowest, PACE_TOLERATED))
    if load.contended:
        conditions.append(Condition("load", load.foreign, LOAD_TOLERATED))
    return timed, energy, conditions


def _sizes(model: nn.Module, generator: Generator, context: int) -> dict[str, float]:
    """Counts weights, parameters and operations, which are the same on every machine."""
    return {
        "weights_mib": weight_bytes(model) / MIB,
        "params": float(sum(p.numel() for p in model.parameters() if p.requires_grad)),
        "flops_per_token": generator.flops(context) / context,
    }


def peak_inference_mib(model: nn.Module, workload: Workload) -> float:
    """Measures weights, decode state and activations while the prompt is read and tokens are generated to the end of
    the context.

    For a model that does not generate, it measures reading the whole context at once.
    """
    generator = model if isinstance(model, Generator) else Reader(model)
    tokens_TB = workload.tokens_BT.T
    meter = peak_meter(model)
    with meter:
        state = generator.new_state(workload.batch, workload.state_tokens)
        generator.prefill(workload.tokens_BT[:, : workload.prompt], state)
    if not workload.generates:
        return meter.peak / MIB
    # No step needs more than the last, which sees the whole context: it alone is counted, as counting is slow.
    for token_B in tokens_TB[workload.prompt : -1]:
        generator.decode_step(token_B, state)
    with meter:
        generator.decode_step(tokens_TB[-1], state)
    return meter.peak / MIB


def peak_training_mib(model: nn.Module, training_step: Callable[[], object]) -> float:
    """Measures weights, gradients, optimiser state and activations.

    The first of two steps makes the optimiser state.
    """
    return peak_mib(lambda: (training_step(), training_step()), model)


def _workload(
    vocabulary: int,
    typical: tuple[int, int],
    settings: MeasureSettings,
    device: torch.device,
    generates: bool,
    answers: bool,
) -> Workload:
    """Makes random tokens, always the same ones: the time does not depend on them, but a lookup must find its row."""
    read, written = typical
    if not generates:
        read, written = read + written, 0
    elif settings.prompt is not None:
        read, written = settings.prompt, written if answers else read + written - settings.prompt
    generator = torch.Generator().manual_seed(0)
    tokens_BT = torch.randint(vocabulary, (settings.batch, read + written), generator=generator)
    return Workload(tokens_BT.to(device), read, generates, answers)


def _energy_mj_per_token(model: Generator, workload: Workload, decode_ms: float) -> float | None:
    """Measures energy over whole generations, so the tokens share what reading the prompt took."""
    generation = Generation(model, workload)
    generations = 1 + int(ENERGY_SECONDS * 1000 / (decode_ms * workload.generated))
    tokens = generations * workload.generated

    def generate() -> None:
        for _ in range(tokens):
            generation.decode_ms()

    spent = energy_mj(generate, workload.tokens_BT.device)
    return None if spent is None else spent / (tokens * workload.batch)
