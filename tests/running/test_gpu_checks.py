"""The checks that need a GPU, as far as a CPU can run them, and how each is kept apart from the others."""

import json
from dataclasses import replace

import pytest
import torch

from nas.errors import UsageError
from nas.running import driver, gpu_check, gpu_checks, gpu_training_checks
from nas.running.gpu_check import Check, CheckFailed, NotCounted
from nas.running.gpu_checks import CHECKS, outcome_of
from nas.running.gpu_doctor import examine_gpu, machine
from nas.training import execution

BY_NAME = {check.name: check for check in CHECKS}
LIMIT_SECONDS = 14 * 60


def test_all_checks_together_take_at_most_fourteen_minutes():
    assert sum(check.seconds for check in CHECKS) <= LIMIT_SECONDS
    assert len(BY_NAME) == len(CHECKS)


@pytest.mark.parametrize("name", ["device", "kinds", "flex", "memory", "measuring", "parallel", "forecast"])
def test_what_a_cpu_can_run_ends_well(name, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    outcome = outcome_of(BY_NAME[name], "cpu")
    assert outcome["level"] == "ok", outcome
    assert outcome["figures"]
    json.dumps(outcome, allow_nan=False)


def test_a_difference_from_the_cpu_is_a_failure(monkeypatch):
    monkeypatch.setattr(gpu_checks, "CLOSE", -1.0)
    outcome = outcome_of(BY_NAME["device"], "cpu")
    assert (outcome["level"], outcome["text"].split(":")[0]) == ("fail", "logits")


def test_compiled_steps_and_bfloat16_are_checked_against_plain_ones(monkeypatch):
    """By a translator that makes no machine code, and by the CPU's own autocast."""
    assert outcome_of(BY_NAME["bf16"], "cpu")["level"] == "warn"
    monkeypatch.setattr(gpu_training_checks, "has_bf16", lambda device: True)
    monkeypatch.setattr(execution, "BACKEND", "eager")
    for name in ("bf16", "compiled"):
        outcome = outcome_of(BY_NAME[name], "cpu")
        assert outcome["level"] == "ok", outcome
    monkeypatch.setattr(gpu_training_checks, "BF16_NATS", -1.0)
    outcome = outcome_of(BY_NAME["bf16"], "cpu")
    assert (outcome["level"], outcome["text"][:13]) == ("fail", "losses differ")


def test_one_gpu_is_not_enough_to_check_two_and_the_cpu_has_no_memory_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert outcome_of(BY_NAME["parallel"], "cuda")["level"] == "warn"
    assert outcome_of(BY_NAME["oom"], "cpu")["level"] == "warn"


def test_running_out_of_memory_has_to_be_known_as_such(monkeypatch):
    def empty(size: int, **_: object) -> None:
        held.append(size)
        if len(held) > 3:
            raise error

    held, error = list[int](), torch.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setattr(gpu_check, "checked_device", torch.device)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: type("Card", (), {"total_memory": 1000}))
    monkeypatch.setattr(torch.cuda, "empty_cache", held.clear)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 2**20)
    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(gpu_training_checks, "_losses", lambda stepper: ([1.5], 2.0))
    monkeypatch.setattr(gpu_training_checks, "_stepper", lambda device: None)
    assert outcome_of(BY_NAME["oom"], "cuda")["figures"] == {"loss": 1.5, "step_ms": 2.0, "held_mib": 1.0}
    monkeypatch.setattr(torch, "empty", lambda size, **_: None)
    assert "5 quarters" in outcome_of(BY_NAME["oom"], "cuda")["text"]


def told(*events: str) -> list[dict[str, object]]:
    """`+1` is trial 1 that starts, `-1` its end."""
    ends = {"state": "COMPLETE", "reason": ""}
    return [{"type": "started" if event[0] == "+" else "finished", "trial": int(event[1]), **ends} for event in events]


@pytest.mark.parametrize(
    ("events", "level", "text"),
    [
        (["+0", "+1", "-0", "+2", "-1", "-2", "+3", "-3"], "ok", "two trials"),
        (["+0", "-0", "+1", "-1", "+2", "-2", "+3", "-3"], "fail", "at once"),
        (["+0", "+1", "-0", "-1"], "fail", "of 4 trials ended COMPLETE, COMPLETE"),
    ],
)
def test_two_trials_on_one_device_have_to_be_there_at_once_and_end_well(monkeypatch, events, level, text):
    def run(file, folder, launch, observe):
        assert (file.resources.gpus_per_trial, launch.gpus) == (0.5, 1)
        for event in told(*events):
            observe(event)
        return driver.Outcome(None, None, None, 1.0)

    monkeypatch.setattr(driver, "run", run)
    outcome = outcome_of(BY_NAME["two_trials"], "cpu")
    assert outcome["level"] == level
    assert text in outcome["text"]


def test_a_share_is_given_to_the_device_and_more_than_it_is_refused(monkeypatch):
    asked = list[object]()

    def empty(size: int, **_: object) -> None:
        asked.append(size)
        if size > 0.1 * 1000:
            raise torch.OutOfMemoryError

    monkeypatch.setattr(gpu_check, "checked_device", torch.device)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: type("Card", (), {"total_memory": 1000}))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", asked.append)
    monkeypatch.setattr(torch, "empty", empty)
    assert outcome_of(BY_NAME["memory_share"], "cuda")["level"] == "ok"
    assert asked == [0.1, 50, 150]
    monkeypatch.setattr(torch, "empty", lambda size, **_: None)
    assert "was given" in outcome_of(BY_NAME["memory_share"], "cuda")["text"]


@pytest.mark.parametrize(
    ("raised", "level"),
    [(NotCounted("nobody counts"), "warn"), (CheckFailed("wrong"), "fail"), (RuntimeError("CUDA error\nlong"), "fail")],
)
def test_whatever_a_check_raises_is_its_outcome(raised, level):
    def run(device: str) -> dict[str, float]:
        raise raised

    outcome = outcome_of(Check("x", "a check", 1, run), "cpu")
    assert outcome["level"] == level
    assert "\n" not in outcome["text"]


@pytest.mark.slow
@pytest.mark.waits
def test_a_check_that_hangs_or_dies_is_told_and_the_next_goes_on():
    hangs = replace(BY_NAME["device"], seconds=0.01)
    dies = replace(BY_NAME["device"], name="no-such-check")
    found = list(examine_gpu("cpu", (hangs, dies, BY_NAME["memory_share"])))
    assert [finding.level for finding in found] == ["fail", "fail", "warn"]
    assert "did not end within" in found[0].text
    assert "StopIteration" in found[1].text
    assert "no memory of its own" in found[2].text


@pytest.mark.skipif(torch.cuda.is_available(), reason="the rule for a machine without a GPU")
def test_without_a_gpu_it_says_so():
    with pytest.raises(UsageError, match="sees no GPU") as caught:
        machine()
    assert (caught.value.code, caught.value.exit_code) == ("no-gpu", 2)
