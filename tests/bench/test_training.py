"""The benchmark of trainings: the restatement against its formulas, the ratios, and a run of a few steps."""

import json
import math

import pytest
import torch
import torch.nn.functional as F

from nas.bench import interleaved, training
from nas.bench.training import CHECKS, OURS, Settings, compare, exact, ratios
from nas.bench.training_restated import RestatedGpt, Shape, adamw, learning_rate
from nas.models import build
from tests.documented import keys_of_json

SMALL = Shape(layers=1, heads=2, hidden=16, context=8, batch=2)


def plain_logits(model, tokens_T):
    """Computes the restatement's logits for one sequence, token by token and head by head."""

    def norm(x_D, gain_D):
        return (x_D - x_D.mean()) / torch.sqrt(x_D.var(correction=0) + 1e-5) * gain_D

    x_TD = [model.tokens.weight[t] + model.places.weight[i] for i, t in enumerate(tokens_T)]
    for block in model.blocks:
        gains = [each.weight for each in block.norms]
        read_TD = [norm(x_D, gains[0]) for x_D in x_TD]
        q_TD, k_TD, v_TD = ([part @ x_D for x_D in read_TD] for part in block.queries_keys_values.weight.chunk(3))
        for i in range(len(x_TD)):
            heads = []
            for head in range(block.heads):
                q, k, v = (torch.stack(y).unflatten(1, (block.heads, -1))[:, head] for y in (q_TD, k_TD, v_TD))
                share = torch.softmax(k[: i + 1] @ q[i] / math.sqrt(q.size(1)), dim=0)
                heads.append(share @ v[: i + 1])
            x_TD[i] = x_TD[i] + block.out.weight @ torch.cat(heads)
        x_TD = [x_D + block.down.weight @ F.gelu(block.up.weight @ norm(x_D, gains[1])) for x_D in x_TD]
    return torch.stack([model.tokens.weight @ norm(x_D, model.norm.weight) for x_D in x_TD])


def test_the_restatement_equals_its_formulas():
    torch.manual_seed(0)
    model = RestatedGpt(SMALL, vocabulary=11)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    tokens_BT = torch.randint(11, (2, 7))
    expected = torch.stack([plain_logits(model, tokens_T) for tokens_T in tokens_BT])
    torch.testing.assert_close(model(tokens_BT), expected, atol=1e-4, rtol=1e-4)


def test_the_restatement_has_the_figures_that_nanogpt_publishes():
    model = RestatedGpt(Shape(), vocabulary=65)
    # nanoGPT reports 0.80 M parameters without positions.
    assert (
        sum(p.numel() for p in model.parameters()) - model.places.weight.numel()
        == 65 * 128 + 4 * (12 * 128**2 + 256) + 128
    )
    groups = adamw(model).param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert all(group["betas"] == (0.9, 0.99) for group in groups)
    rates = [learning_rate(step, 2000) for step in range(2000)]
    assert max(rates) == rates[100] == pytest.approx(1e-3)
    assert rates[0] == pytest.approx(1e-3 / 101)
    assert rates[1050] == pytest.approx(5.5e-4)
    assert rates[-1] == pytest.approx(1e-4, rel=1e-3)


def test_our_exact_architecture_has_nanogpts_matrices():
    ours = build(exact(Shape()), 65, 64)
    theirs = RestatedGpt(Shape(), 65)

    def shapes(model):
        return sorted(tuple(p.shape) for p in model.parameters() if p.ndim == 2)

    assert shapes(ours) == shapes(theirs)


def row(name, seed, ratio):
    return {"training": name, "seed": seed, "ratio": ratio, "cpu_ratio": ratio}


def test_a_loss_never_reached_counts_as_infinite_in_the_median():
    rows = [row("exact", seed, ratio) for seed, ratio in enumerate((0.4, None, 0.3))]
    rows += [row("free", seed, ratio) for seed, ratio in enumerate((0.2, None, None))] + [row("adamw", 0, 1.0)]
    found = ratios(rows)
    assert found["exact"]["ratio"] == {"per_seed": [0.4, None, 0.3], "median": 0.4}
    assert found["exact"]["reached"] == 2
    assert found["free"]["cpu_ratio"]["median"] is None


@pytest.mark.slow
def test_a_small_run_is_written_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(interleaved, "WARM_UP_SECONDS", 1e-9)
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 60, encoding="utf-8")
    settings = Settings(1, steps=12, exact_steps=10, free_steps=10, corpus=str(text), shape=SMALL, widths=(16,))
    said = []
    result = compare(settings, said.append)
    training.write(result, tmp_path)
    assert json.loads((tmp_path / "training.json").read_text())["rows"] == result["rows"]
    assert set(result) == keys_of_json("nas bench training")
    assert [row["training"] for row in result["rows"]] == ["adamw", *OURS]
    for found in result["rows"]:
        assert found["checks"][-1]["step"] == found["steps"]
        seconds = [check["cpu_seconds"] for check in found["checks"]]
        assert seconds == sorted(seconds)
        assert len(seconds) <= len(CHECKS)
    adamw_row = result["rows"][0]
    assert adamw_row["ratio"] == 1
    assert adamw_row["reached"]["loss"] == adamw_row["loss"]
    (speed,) = result["speed"]["rows"]
    assert 0 < speed["optimiser_share"] < 1
    assert len(said) > 1
