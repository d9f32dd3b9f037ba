"""Defines what a model's outputs are; a task chooses it and `build` makes it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Head:
    """Says what a model's outputs are.

    tokens: logits of a token at each place.
    classes: logits of the classes with these names, one row a text.
    span: logits of each place to be the first, and the last, of the span asked for.
    copy: logits of tokens, some of which may be copied from the source.
    """

    kind: Literal["tokens", "classes", "span", "copy"] = "tokens"
    classes: tuple[str, ...] = ()


TOKENS = Head()
