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
