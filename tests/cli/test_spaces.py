"""`nas spaces`."""

from pathlib import Path

GOOD = """
name = "good"
objectives = [{ metric = "val_loss" }, { metric = "params" }]
[space]
depth = [1, 2]
hidden = [16]
attention = [{ kind = "linear", heads = [1, 2] }]
"""


def test_lists_good_files_and_broken_ones(nas):
    Path("search_spaces").mkdir()
    Path("search_spaces/good.toml").write_text(GOOD)
    Path("search_spaces/bad.toml").write_text(GOOD.replace('"linear"', '"linea"'))
    ran = nas("spaces")
    assert ran.code == 0
    assert max(map(len, ran.out.splitlines())) <= 80
    bad, good = (next(line for line in ran.out.splitlines() if line.startswith(name)) for name in ("bad", "good"))
    assert good.split()[:4] == ["good.toml", "4", "min", "val_loss"]
    assert "broken" in bad
    assert "unknown attention kind 'linea'" in " ".join(ran.out.split())
    assert "python-docs, context 64" in ran.out


def test_no_file_yet(nas):
    ran = nas("spaces")
    assert (ran.code, ran.out) == (0, "")
    assert "nas init" in ran.err
