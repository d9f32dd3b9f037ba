"""Defines what a model's outputs are, for a task to say and for `build` to make."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Head:
    """tokens: logits of a token at each place. classes: logits of the classes with these names, one row a text. span:
    logits of each place to be the first, and the last, of what is asked for. copy: those of tokens, of which some may
    be copied from the source."""

    kind: Literal["tokens", "classes", "span", "copy"] = "tokens"
    classes: tuple[str, ...] = ()


TOKENS = Head()
