"""`measure` on real models: every promised name, finite, exact where it can be, and the model as it was."""

import copy
import gc
import json
import math
from collections.abc import Mapping

import pytest
import torch

from nas.architecture import Architecture
from nas.errors import UsageError
from nas.kinds import having
from nas.measure import measure
from nas.measurement import MAIN, Measurement
from nas.models import build
from nas.readings import decode
from nas.results import METRICS
from nas.settings.protocol_versions import NEWEST
from nas.settings.study_settings import MeasureSettings

SETTINGS = MeasureSettings(repeats=2)
PROMISED = {
    *("peak_inference_mib", "weights_mib", "decode_state_kib", "params", "flops_per_token", "contended"),
    *(f"prefill_ms{end}" for end in ("", "_p10", "_p90", "_count", "_low", "_high")),
    *(f"decode_ms_per_token{end}" for end in ("", "_p10", "_p90", "_count", "_low", "_high")),
    *(f"decode_ms_per_token_{depth}" for depth in ("start", "middle", "end")),
}


def measured(*arguments, **options) -> Mapping[str, float]:
    return measure(*arguments, **options).metrics


def names_of(metrics: Mapping[str, float]) -> set[str]:
    """The names, without the energy that few machines count, the best pace that a disturbed measurement adds, and the
    bound that needs 59 readings.
    """
    return {name for name in metrics if name != "energy_mj_per_token" and not name.endswith(("_best", "_p95"))}


def architecture(kind: str = "softmax", hidden: int = 32) -> Architecture:
    return Architecture.model_validate({"hidden": hidden, "blocks": [{"attention": {"kind": kind}}]})


@pytest.mark.parametrize("kind", having("causal"))
def test_every_promised_metric_is_there_finite_and_positive(kind):
    metrics = measured(build(architecture(kind), context=16), 65, 16, SETTINGS, "cpu")
    assert names_of(metrics) == PROMISED
    assert all(name in METRICS or name == "contended" or name.rpartition("_")[0] in METRICS for name in metrics)
    contended = metrics.pop("contended")
    assert contended in (0.0, 1.0)
    stateless = ("decode_state_kib",) if kind == "none" else ()
    assert all(math.isfinite(value) and (value > 0 or name in stateless) for name, value in metrics.items())


def test_an_encoder_reads_and_does_not_generate():
    whole = {"family": "encoder", "hidden": 32, "blocks": [{"attention": {"kind": "linformer"}}]}
    model = build(Architecture.model_validate(whole), context=16)
    metrics = measured(model, 65, 16, SETTINGS, "cpu", typical=(9, 0))
    assert measured(model, 65, 16, SETTINGS, "cpu")["peak_inference_mib"] > metrics["peak_inference_mib"]
    generating = {"decode_state_kib", *(name for name in PROMISED if name.startswith("decode_ms"))}
    assert names_of(metrics) == PROMISED - generating
    assert metrics["flops_per_token"] * 16 == model.flops(16)


def test_a_model_with_a_source_reads_it_and_writes_an_answer():
    block = {"attention": {"kind": "softmax"}}
    whole = {"hidden": 32, "encoder_blocks": [block], "blocks": [block | {"cross": {"kind": "additive"}}]}
    model = build(Architecture.model_validate(whole | {"family": "encoder_decoder"}), context=16)
    metrics = measured(model, 65, 16, SETTINGS, "cpu", typical=(7, 4))
    whole = {f"generation_ms{part}" for part in ("", "_p10", "_p90", "_count", "_low", "_high")}
    assert names_of(metrics) == PROMISED | whole
    assert metrics["decode_state_kib"] * 2**10 == model.state_bytes(1, 16)
    longer = measured(model, 65, 16, SETTINGS, "cpu", typical=(16, 16))
    assert longer["peak_inference_mib"] > metrics["peak_inference_mib"]


def test_the_measurement_tells_its_protocol_and_keeps_its_readings():
    found = measure(build(architecture(), context=16), 65, 16, MeasureSettings(repeats=2, batch=3, prompt=4), "cpu")
    told = found.measurement[MAIN]
    protocol = told["protocol"]
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert {key: protocol[key] for key in ("version", "device", "dtype", "threads", "runtime", "batch", "prompt")} == {
        **{"version": NEWEST, "device": "cpu", "dtype": "float32", "threads": 1},
        **{"runtime": "eager", "batch": 3, "prompt": 4},
    }
    assert (protocol["generated"], protocol["rounds"], protocol["precision"]) == (12, "whole generations", 0.02)
    kept = {name: decode(text) for name, text in told["readings"].items()}
    for name, readings in kept.items():
        size = told["per_round"][name]
        rounds = [readings[i : i + size] for i in range(0, len(readings), size)]
        assert len(rounds) == told["rounds"]
        again = Measurement.of_rounds(rounds)
        assert again.median == pytest.approx(found.metrics[name], rel=1e-3)
        assert again.within.low == pytest.approx(found.metrics[f"{name}_low"], rel=1e-3)
    missed = [condition["name"] for condition in told["conditions"]]
    assert found.metrics["contended"] == float("load" in missed or "pace" in missed)
    assert "interval" in missed or found.metrics["prefill_ms_high"] <= 1.02 * found.metrics["prefill_ms"]


def test_the_first_protocol_has_no_intervals_and_its_percentiles():
    found = measure(build(architecture(), context=16), 65, 16, MeasureSettings(repeats=2, protocol=1), "cpu")
    assert {name for name in found.metrics if name.startswith("prefill_ms") and not name.endswith("_best")} == {
        f"prefill_ms{end}" for end in ("", "_p10", "_p90", "_p95", "_count")
    }
    assert not any(name.endswith(("_low", "_high", "_start")) for name in found.metrics)
    told = found.measurement[MAIN]
    assert (told["protocol"]["version"], told["protocol"]["precision"]) == (1, None)
    assert not [condition for condition in told["conditions"] if condition["name"] == "interval"]


def test_exact_metrics_follow_from_the_model():
    model = build(architecture(), vocabulary=65, context=16)
    metrics = measured(model, 65, 16, MeasureSettings(repeats=2, batch=3), "cpu")
    parameters = sum(p.numel() for p in model.parameters())
    assert metrics["params"] == parameters
    assert metrics["weights_mib"] * 2**20 == 4 * (parameters + sum(b.numel() for b in model.buffers()))
    assert metrics["decode_state_kib"] * 2**10 == model.state_bytes(3, 16)
    assert metrics["flops_per_token"] * 16 == model.flops(16)
    assert metrics["peak_inference_mib"] > metrics["weights_mib"] + metrics["decode_state_kib"] / 2**10


def test_exact_metrics_repeat_exactly_and_hold_more_for_a_larger_batch():
    model = build(architecture(), context=16)
    first, second = (measured(model, 65, 16, SETTINGS, "cpu") for _ in range(2))
    exact = [name for name in first if name in METRICS and METRICS[name].exact]
    assert [first[name] for name in exact] == [second[name] for name in exact]
    larger = measured(model, 65, 16, MeasureSettings(repeats=2, batch=4), "cpu")
    assert larger["peak_inference_mib"] > first["peak_inference_mib"]


def test_the_peak_is_that_of_the_last_step_when_it_needs_most():
    """With one token as the prompt, only the last decode step attends to the whole context."""
    model = build(architecture(), context=64)
    short = measured(model, 65, 16, MeasureSettings(repeats=2, prompt=1), "cpu")
    long = measured(model, 65, 64, MeasureSettings(repeats=2, prompt=1), "cpu")
    grown = (long["decode_state_kib"] - short["decode_state_kib"]) / 2**10
    assert long["peak_inference_mib"] - short["peak_inference_mib"] >= grown > 0


def test_training_memory_is_counted_where_a_step_is_given():
    model = build(architecture(), context=16)
    optimiser = torch.optim.AdamW(model.parameters())
    tokens_BT = torch.zeros(8, 16, dtype=torch.long)

    def step() -> None:
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        optimiser.zero_grad()
        model(tokens_BT).square().mean().backward()
        optimiser.step()

    metrics = measured(model, 65, 16, SETTINGS, "cpu", step)
    assert names_of(metrics) == {*PROMISED, "peak_training_mib"}
    assert metrics["peak_training_mib"] > 4 * metrics["params"] * 4 / 2**20


def test_nothing_is_left_changed():
    model = build(architecture(), context=16).train()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    found = torch.get_num_threads(), gc.isenabled(), torch.is_grad_enabled(), torch.get_rng_state()
    measured(model, 65, 16, MeasureSettings(repeats=2, threads=2), "cpu")
    assert (torch.get_num_threads(), gc.isenabled(), torch.is_grad_enabled()) == found[:3]
    assert torch.equal(torch.get_rng_state(), found[3])
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("device", "prompt", "message"), [("tpu", None, "unknown device"), ("cpu", 16, "prompt of 16")]
)
def test_what_cannot_be_measured_is_refused(device, prompt, message):
    with pytest.raises(UsageError, match=message):
        measured(build(architecture(), context=16), 65, 16, MeasureSettings(prompt=prompt), device)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", having("causal"))
def test_every_kind_generates_in_numbers_of_16_bits(kind, dtype):
    whole = build(architecture(kind), context=16).eval()
    tokens_BT = torch.randint(65, (2, 16), generator=torch.Generator().manual_seed(0))
    model = copy.deepcopy(whole).to(dtype)
    with torch.inference_mode():
        state = model.new_state(2, 16)
        model.prefill(tokens_BT[:, :-1], state)
        found, expected = model.decode_step(tokens_BT[:, -1], state), whole(tokens_BT)[:, -1]
    assert found.dtype == dtype
    assert (found.float() - expected).abs().max() < 0.1 * expected.std() + 0.05
