"""What a trained model looks at, as it is stored for the report."""

import json

import pytest
import torch

from nas import models
from nas.architecture import Architecture
from nas.settings.task_settings import TextTask
from nas.tasks import open_task
from nas.training import attention_maps

TEXT = "".join(chr(97 + i * i % 26) for i in range(2000))
SOFTMAX, LSTM = {"attention": {"kind": "softmax"}}, {"attention": {"kind": "lstm"}, "feed_forward": {"kind": "none"}}
ANSWERING = SOFTMAX | {"cross": {"kind": "additive", "heads": 2}}
CASES = {
    "decoder": ("language_modelling", {"blocks": [SOFTMAX, {"attention": {"kind": "none"}}]}, {"block 0": 4}),
    "encoder": ("masked_language_modelling", {"blocks": [{"attention": {"kind": "linear"}}]}, {"block 0": 4}),
    "encoder_decoder": (
        "copy_spans",
        {"blocks": [ANSWERING], "encoder_blocks": [SOFTMAX]},
        {"encoder block 0": 4, "block 0": 4, "block 0 to source": 2},
    ),
    "recurrent": ("language_modelling", {"blocks": [LSTM]}, {}),
}


@pytest.mark.parametrize("family", CASES)
def test_every_attention_with_weights_is_there_head_by_head(tmp_path, family):
    kind, stacks, expected = CASES[family]
    (tmp_path / "text.txt").write_text(TEXT)
    task = open_task(TextTask(kind=kind, corpus=str(tmp_path / "text.txt"), context=40))
    architecture = Architecture.model_validate({"family": family, "hidden": 16, **stacks})
    torch.manual_seed(0)
    model = models.build(architecture, task.vocabulary, task.context).train()
    found = attention_maps.of(model, architecture, task)
    assert model.training
    assert {entry["name"]: len(entry["weights"]) for entry in found["maps"]} == expected
    assert len(found["tokens"]) == attention_maps.TOKENS
    assert len(found["source_tokens"]) == (attention_maps.TOKENS if family == "encoder_decoder" else 0)
    for entry in found["maps"]:
        weights = torch.tensor(entry["weights"])
        assert weights.shape[1:] == (attention_maps.TOKENS, attention_maps.TOKENS)
        torch.testing.assert_close(weights.abs().sum(-1), torch.ones(weights.shape[:2]), atol=0.2, rtol=0)

    attention_maps.save(tmp_path / "maps.json", found)
    assert json.loads((tmp_path / "maps.json").read_text(encoding="utf-8")) == found
