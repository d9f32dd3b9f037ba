"""Limits, measurements and the metric table."""

import pytest

from nas.errors import NasError, UsageError, nearest
from nas.measurement import Measurement
from nas.results import METRICS, Constraint, Rung, State, TrialResult, metric


def test_every_metric_has_its_unit_in_its_name_or_none():
    units = {"ms": "_ms", "MiB": "_mib", "KiB": "_kib", "mJ": "_mj", "s": "_seconds"}
    for known in METRICS.values():
        assert units.get(known.unit, "") in known.name


def test_a_violation_is_relative_and_at_most_zero_when_the_limit_is_kept():
    limit = Constraint("weights_mib", max=16)
    assert limit.violation({"weights_mib": 24}) == pytest.approx(0.5)
    assert limit.violation({"weights_mib": 16}) == 0
    assert limit.violation({"weights_mib": 8}) < 0
    assert limit.violation({}) == 0
    both = Constraint("val_accuracy", min=0.2, max=0.4)
    assert both.violation({"val_accuracy": 0.1}) > 0
    assert both.violation({"val_accuracy": 0.3}) < 0
    assert str(both) == "0.2 <= val_accuracy <= 0.4"


def test_a_measurement_tells_its_spread():
    told = Measurement.of(range(1, 102)).metrics("decode_ms_per_token")
    assert told == {
        "decode_ms_per_token": 51,
        "decode_ms_per_token_p10": 11,
        "decode_ms_per_token_p90": 91,
        "decode_ms_per_token_p95": 96,
        "decode_ms_per_token_count": 101,
    }
    for readings in ([], [1.0, float("nan")]):
        with pytest.raises(ValueError, match="reading"):
            Measurement.of(readings)


def test_trained_means_complete_or_stopped_at_a_rung():
    rungs = (Rung(1, 1.0, {}),)
    cases = [(State.COMPLETE, (), True), (State.PRUNED, rungs, True), (State.PRUNED, (), False)]
    for state, reached, trained in [*cases, (State.FAIL, rungs, False)]:
        assert TrialResult(0, state, "x", {}, rungs=reached).trained is trained


def test_an_unknown_metric_names_the_nearest():
    with pytest.raises(UsageError) as caught:
        metric("val_los")
    assert "did you mean 'val_loss'?" in caught.value.help


def test_an_error_renders_place_detail_and_help():
    error = NasError("it broke", code="broken", where="file:3  key", detail="stored 1\nnow 2", help="do this\nor that")
    assert error.render() == (
        "error[broken]: it broke\n  --> file:3  key\n      stored 1\n      now 2\n  help: do this\n        or that"
    )
    assert nearest("zzz", ["a", "b"]) == "one of a, b"


def test_a_trial_is_printed_in_one_short_line():
    model = {"hidden": 32, "blocks": [{"attention": {"kind": "softmax", "heads": 1}}]}
    spread = {f"decode_ms_per_token_{key}": 0.3 for key in ("p10", "p90", "p95")}
    trial = TrialResult(
        3, State.COMPLETE, "abc", model, metrics={"decode_ms_per_token": 0.3, **spread, "val_loss": 2.12345}
    )
    told = "hidden 32: softmax heads=1 swiglu; val_loss 2.123, decode_ms_per_token 0.3"
    assert repr(trial) == f"<TrialResult 3 COMPLETE: {told}>"
    skipped = TrialResult(4, State.PRUNED, "abc", {}, parameters={"width": 3}, reason="skipped")
    assert f"{skipped}" == "<TrialResult 4 PRUNED (skipped): width 3>"
    assert repr(TrialResult(5, State.WAITING, "abc", {"hidden": "x"})) == "<TrialResult 5 WAITING: abc>"
    deep = TrialResult(6, State.COMPLETE, "abc", {}, parameters={f"parameter_{i}": i for i in range(1000)})
    assert len(repr(deep)) < 300
