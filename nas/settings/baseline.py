"""Reads the `[[baselines]]` tables of a study file: architectures in short form."""

from typing import Annotated, Any, Literal

from pydantic import Field

from nas import bounds
from nas.architecture import LSTM_LAYER, Architecture, Family
from nas.kinds import Position
from nas.toml_table import Count, Table

Depth = Annotated[Count, Field(le=bounds.BLOCKS)]


class BaselineSettings(Table):
    """Describes an architecture in short: `depth` equal blocks, and `encoder_depth` of them where there is a source.

    `family` is by default the study's first. `cross` and the other fields of a block count for every block.
    """

    family: Family | None = None
    hidden: Annotated[Count, Field(le=bounds.HIDDEN)]
    depth: Depth
    encoder_depth: Depth | None = None
    attention: dict[str, Any] | None = None
    feed_forward: dict[str, Any] = Field(default_factory=dict)
    cross: dict[str, Any] | None = None
    position: Position | None = None
    norm: Literal["rms", "layer"] = "rms"
    residual: Literal["sequential", "parallel", "post"] = "sequential"
    tied: bool = True
    repeat: Annotated[Count, Field(le=bounds.REPEATED_BLOCKS)] = 1

    def architecture(self, family: Family) -> Architecture:
        """Builds the architecture in the given family, unless it names its own. Raises InvalidArchitecture."""
        family = self.family or family
        block: dict[str, Any] = {"norm": self.norm, "residual": self.residual, "feed_forward": self.feed_forward}
        block |= {"attention": self.attention} if self.attention else {}
        block |= {"position": self.position} if self.position else {}
        crossing = {"cross": self.cross} if self.cross else {}
        if family == "recurrent":
            block = LSTM_LAYER.canonical() | ({"attention": self.attention} if self.attention else {})
            blocks = [block | crossing, *[block] * (self.depth - 1)]
        else:
            blocks = [block | crossing] * self.depth
        whole = {"family": family, "hidden": self.hidden, "blocks": blocks, "tied": self.tied, "repeat": self.repeat}
        return Architecture.model_validate(whole | {"encoder_blocks": [block] * (self.encoder_depth or 0)})
