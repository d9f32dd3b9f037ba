"""Compiled models give the same logits, and are timed by the same rounds.

torch cannot capture the calls that this suite checks the types of, so the real compiler runs in a process of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nas.architecture import Architecture
from nas.measure.cheap import prepare, times
from nas.measure.compiled import compiled
from nas.measurement import MAIN
from nas.models import build
from nas.settings.study_settings import MeasureSettings

DECODER = {"hidden": 32, "blocks": [{"attention": {"kind": "softmax"}}]}
ENCODER = {"family": "encoder", **DECODER}
REAL = """
import torch
from nas.architecture import Architecture
from nas.measure.cheap import prepare, times
from nas.measure.compiled import compiled
from nas.models import build
from nas.settings.study_settings import MeasureSettings

def logits(model, tokens_BT):
    with torch.inference_mode():
        state = model.new_state(len(tokens_BT), 16)
        found = [model.prefill(tokens_BT[:, :8], state)[:, -1]]
        return torch.stack([*found, *(model.decode_step(token_B, state) for token_B in tokens_BT[:, 8:].T)])

blocks = [{"attention": {"kind": kind}} for kind in ("softmax", "window", "linear")]
model = build(Architecture.model_validate({"hidden": 32, "blocks": blocks}), context=16).eval()
tokens_BT, settings = torch.randint(65, (2, 16)), MeasureSettings(repeats=1, batch=2)
expected = logits(model, tokens_BT)
prepare(compiled(model), 65, 16, settings, "cpu")
graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
times(model, 65, 16, settings, "cpu", runtime="compile")
assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs > 0, "something was compiled while it was timed"
torch.testing.assert_close(logits(model, tokens_BT), expected)
"""


@pytest.mark.parametrize(("whole", "wanted"), [(DECODER, {"prefill", "decode_step"}), (ENCODER, {"forward"})])
def test_what_is_timed_runs_compiled(monkeypatch, whole, wanted):
    called = set()

    def record(function, backend, options):
        def run(*arguments):
            called.add(function.__name__)
            return function(*arguments)

        return run

    monkeypatch.setattr(torch, "compile", record)
    model = compiled(build(Architecture.model_validate(whole), context=16))
    settings = MeasureSettings(repeats=1)
    prepare(model, 65, 16, settings, "cpu")
    assert called == wanted
    found = times(model, 65, 16, settings, "cpu", runtime="compile")
    assert found.measurement[MAIN]["protocol"]["runtime"] == "compile"
    assert found.metrics["prefill_ms"] > 0


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_the_real_compiler_changes_no_logits_and_has_done_its_work_before_the_timing(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", REAL], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
