"""The README: short enough to be read, and its Python runs, on a smaller study of the same name."""

import re
from functools import partial
from pathlib import Path

import pytest

import nas

PAGE = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
STUDY = """
name = "tiny_lm"
task = { corpus = "text.txt", context = 8 }
train = { steps = 4, batch = 2, rungs = [0.5, 1.0], evaluation_tokens = 64 }
measure = { repeats = 2 }
objectives = [{ metric = "val_loss" }, { metric = "decode_ms_per_token" }]
resources = { device = "cpu" }
space = { depth = 1, hidden = 16, attention = [{ kind = "softmax", heads = [1, 2, 4] }] }
"""


def test_it_is_read_in_a_few_minutes():
    assert len(PAGE.split()) <= 900


@pytest.mark.slow
def test_its_python_runs(tmp_path, monkeypatch, capsys):
    (tmp_path / "search_spaces").mkdir()
    corpus = tmp_path / "text.txt"
    corpus.write_text("The for statement is used to iterate over the elements of a sequence. " * 30, encoding="utf-8")
    study = STUDY.replace("text.txt", str(corpus))
    (tmp_path / "search_spaces" / "tiny_lm.toml").write_text(study, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(nas, "search", partial(nas.search, executor="serial"))
    (example,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    smaller = example.replace("trials=24", "trials=2").replace("steps=2000", "steps=6").replace("<=0.3", "<=1e9")
    assert len({example, smaller}) == 2
    exec(compile(smaller, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("The for statement")
