"""Reads the progress of a training from its checkpoint, and checks it before training continues."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nas.printable import quoted
from nas.results import Rung

Number = Annotated[float, Field(allow_inf_nan=False)]


class _Rung(BaseModel):
    model_config = ConfigDict(strict=True)

    step: int = Field(ge=1)
    seconds: Number = Field(ge=0)
    metrics: dict[str, Number]


class Progress(BaseModel):
    """Holds the steps taken, the seconds and tokens of training, and the rungs reached."""

    model_config = ConfigDict(strict=True)

    step: int = Field(ge=0)
    seconds: Number = Field(ge=0)
    tokens: int | None = Field(default=None, ge=0)
    rungs: list[_Rung]

    def reached(self) -> tuple[Rung, ...]:
        return tuple(Rung(rung.step, rung.seconds, rung.metrics) for rung in self.rungs)


def progress_of(metadata: Mapping[str, Any], rung_steps: Sequence[int]) -> Progress:
    """Returns the progress that a checkpoint stores. Raises ValueError where it cannot be true of a training with these
    rungs.

    Raises ValueError where it cannot be true of a training with these rungs.
    """
    try:
        found = Progress.model_validate(metadata.get("progress"))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, ("progress", *first["loc"])))
        raise ValueError(f"{place}: {first['msg']}, found {quoted(first.get('input'), 80)}") from None
    if found.step > rung_steps[-1]:
        raise ValueError(f"progress.step = {found.step}, where training has {rung_steps[-1]} steps")
    expected = [step for step in rung_steps if step <= found.step]
    if [rung.step for rung in found.rungs] != expected:
        raise ValueError(f"progress.rungs: of step {found.step}, expected rungs at {expected}")
    return found
