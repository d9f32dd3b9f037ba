"""`nas bench`: what is refused before anything is measured."""

import pytest


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--pairs", "20"), "need an even context of at least 80"),
        (("--kinds", "linformer"), "linformer attention has no causal form"),
        (("--kinds", "none"), "none: "),
        (("--rates", "fast"), "cannot read the learning rates 'fast'"),
    ],
)
def test_recall_that_cannot_be_is_told_before_anything_is_trained(nas, tmp_path, options, told):
    ran = nas("bench", "recall", *options, "--out", tmp_path / "out")
    assert ran.code == 2
    assert told in ran.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["attention", "recall"])
def test_files_of_others_with_the_names_of_results_stay(nas, tmp_path, command):
    (tmp_path / f"{command}.csv").write_text("mine", encoding="utf-8")
    ran = nas("bench", command, "--out", tmp_path)
    assert (ran.code, ran.out) == (4, "")
    assert "error[not-a-benchmark]" in ran.err
    assert [path.name for path in tmp_path.iterdir()] == [f"{command}.csv"]
