"""Lists the versions of the training recipe; a study keeps the one that it was created with, so no front mixes two."""

from dataclasses import dataclass
from typing import Literal

from nas.errors import InvalidStudyFile

Decay = Literal["cosine", "linear"]


@dataclass(frozen=True)
class RecipeVersion:
    """Holds that in which versions of the recipe differ.

    `rate_falls`: whether Muon's own rate is divided by √(steps / 200) beyond 200 steps. `momentum`: Muon's.
    `iteration`: how it makes the singular values of an update equal (nas.training.orthogonalisation). `per_head`:
    whether it takes the part of each head by itself. `turns`: the steps after which it updates a matrix again, unless
    that is cut into heads (nas.training.muon). `head_rate_falls`: whether AdamW's rate of the matrix that makes logits
    falls with its width (nas.training.optimiser). `sinusoidal_start`: whether learned positions start as sinusoids, not
    drawn at random (nas.models.layers). `decay`: how all rates fall after the warm-up (nas.training.optimiser).
    """

    rate_falls: bool
    momentum: float
    iteration: Literal["newton_schulz", "gram_newton_schulz"]
    per_head: bool
    turns: int
    head_rate_falls: bool
    sinusoidal_start: bool
    decay: Decay


FIRST = 1
"""The version of all studies that store none: the recipe of nas 0.1 and 0.2."""
VERSIONS = {
    FIRST: RecipeVersion(
        rate_falls=False,
        momentum=0.95,
        iteration="newton_schulz",
        per_head=False,
        turns=1,
        head_rate_falls=False,
        sinusoidal_start=False,
        decay="cosine",
    ),
    2: RecipeVersion(
        rate_falls=True,
        momentum=0.85,
        iteration="gram_newton_schulz",
        per_head=True,
        turns=2,
        head_rate_falls=True,
        sinusoidal_start=True,
        decay="linear",
    ),
}
NEWEST = max(VERSIONS)


def check(version: int) -> None:
    """Raises InvalidStudyFile for a version that is not in VERSIONS."""
    if version not in VERSIONS:
        known = " or ".join(map(str, VERSIONS))
        text = f"this version of nas has no recipe {version}"
        raise InvalidStudyFile(text, where="train.recipe", help=f"use {known}, or leave it out for the newest")
