"""What a model's outputs are, for a task to say and for `build` to make."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Head:
    """tokens: logits of a token at each place. classes: logits of the classes with these names, one row a text. span:
    logits of each place to be the first, and the last, of what is asked for."""

    kind: Literal["tokens", "classes", "span"] = "tokens"
    classes: tuple[str, ...] = ()


TOKENS = Head()
