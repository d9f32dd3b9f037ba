"""A study file that is not there: the error names the one that may be meant."""

import pytest

import nas


@pytest.mark.parametrize(
    ("named", "meant"),
    [
        ("tiny_lm", "search_spaces/tiny_lm.toml"),
        ("tinylm.toml", "search_spaces/tiny_lm.toml"),
        ("mien.toml", "mine.toml"),
    ],
)
def test_the_near_name_is_told(tmp_path, monkeypatch, named, meant):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "search_spaces").mkdir()
    for file in ("search_spaces/tiny_lm.toml", "mine.toml", "pyproject.toml"):
        (tmp_path / file).write_text("")
    with pytest.raises(nas.InvalidStudyFile) as caught:
        nas.load(named)
    assert f"did you mean '{meant}'?" in caught.value.help
    assert "pyproject" not in caught.value.help


def test_without_a_near_name_the_ways_to_a_file_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(nas.InvalidStudyFile) as caught:
        nas.load("first.toml")
    assert caught.value.help.splitlines() == [
        "nas spaces   lists the study files at hand",
        "nas init first.toml   writes one to start from",
    ]
