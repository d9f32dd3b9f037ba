"""Reasons and verdicts as rows store them."""

import json
from dataclasses import asdict

import pytest

from nas.reasons import Reason, Verdict, over_limit


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_is_stored_as_its_plain_string_and_read_back(reason):
    stored = json.loads(json.dumps(reason))
    assert stored == str(reason) == reason.value
    assert Reason.from_stored(stored) is reason


def test_a_limit_is_stored_with_its_metric():
    assert over_limit("weights_mib") == "infeasible:weights_mib"
    assert Reason.from_stored("infeasible:weights_mib") is Reason.INFEASIBLE


@pytest.mark.parametrize("stored", ["", "because", "infeasibly:weights_mib"])
def test_an_unknown_reason_is_none(stored):
    assert Reason.from_stored(stored) is None


def test_a_verdict_is_read_from_a_rows_attributes():
    verdict = Verdict(10, over_limit("val_loss"), {"val_loss": 0.5})
    assert Verdict.from_stored({"verdict": json.loads(json.dumps(asdict(verdict)))}) == verdict
    assert Verdict.from_stored({}) is None
