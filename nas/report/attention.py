"""Draws the attention maps of the front's members as small pictures: one for each head of each block.

A row is a token that looks, a column is a token looked at. The stronger the colour, the larger the weight; the largest
weight of a picture has full colour. Negative weights, which kinds without a softmax may have, are orange. Only
transparency varies, so a picture suits light and dark paper.
"""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import image
from matplotlib.colors import to_rgb

from nas.report.palette import LIGHT
from nas.results import TrialResult


@dataclass(frozen=True)
class Head:
    caption: str
    address: str
    """The picture itself, as a data: address."""


@dataclass(frozen=True)
class Layer:
    """Holds the pictures of one block's attention, or of its attention to the source."""

    name: str
    kind: str
    heads: tuple[Head, ...]


@dataclass(frozen=True)
class Member:
    trial: TrialResult
    text: str
    """The example, as the model reads it."""
    layers: tuple[Layer, ...]


def members(front: tuple[TrialResult, ...], maps: Any) -> list[Member]:
    """Returns the members of the front that have attention maps."""
    return [_member(trial, maps[trial.number]) for trial in front if maps.get(trial.number, {}).get("maps")]


def _member(trial: TrialResult, stored: Any) -> Member:
    layers = tuple(
        Layer(
            layer["name"],
            layer["kind"],
            tuple(_head(trial, layer["name"], i, weights) for i, weights in enumerate(layer["weights"])),
        )
        for layer in stored["maps"]
    )
    return Member(trial, "".join(stored["source_tokens"] or stored["tokens"]), layers)


def _head(trial: TrialResult, layer: str, i: int, weights: Any) -> Head:
    return Head(f"trial {trial.number}, {layer}, head {i}", f"data:image/png;base64,{_png(np.asarray(weights))}")


def _png(weights_TS: np.ndarray[Any, Any]) -> str:
    """Makes a picture with one pixel for each weight."""
    share_TS = weights_TS / max(np.abs(weights_TS).max(), 1e-9)
    pixels = np.zeros((*share_TS.shape, 4))
    pixels[..., :3] = np.where(share_TS[..., None] < 0, to_rgb(LIGHT["infeasible"]), to_rgb(LIGHT["front"]))
    pixels[..., 3] = np.abs(share_TS)
    buffer = io.BytesIO()
    image.imsave(buffer, pixels, format="png")
    return base64.b64encode(buffer.getvalue()).decode()
