"""docs/python_api.md: its examples run, in order, and it tells of every public name."""

import re
from pathlib import Path

import pytest

import nas

pytestmark = pytest.mark.slow
PAGE = Path(__file__).parents[2] / "docs" / "python_api.md"
SMALLER = {"trials=24": "trials=2", "trials=48": "trials=3", "trials=49": "trials=4", "steps=500": "steps=4"}


def test_the_examples_run_in_order(file, monkeypatch, capsys):
    (file.parent / "search_spaces").mkdir()
    small = file.read_text(encoding="utf-8").replace('name = "exact"', 'name = "tiny_lm"')
    (file.parent / "search_spaces" / "tiny_lm.toml").write_text(small.replace("fox.txt", str(file.parent / "fox.txt")))
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        for long, short in {**SMALLER, "steps=1000": "steps=4", "decode_ms_per_token<=100": "params<=1e9"}.items():
            block = block.replace(long, short)
        exec(compile(block, str(PAGE), "exec"), names)  # the page is ours
    shown = capsys.readouterr().out
    assert "The " in shown or "the " in shown
    assert "error[nothing-feasible]" in shown


def test_every_public_name_is_told():
    text = PAGE.read_text(encoding="utf-8")
    assert {name for name in nas.__all__ if name not in text} <= {"Rung"}
    for kind in (nas.Study, nas.Model):
        assert {name for name in vars(kind) if not name.startswith("_") and f"{name}" not in text} == set()
