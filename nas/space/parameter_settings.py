"""Reads the `[space.parameters]` table of a study file: Optuna's own ranges and choices, for a body of your own."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from nas.spec import Flag
from nas.toml_table import Table, as_tuple

MOST_PARAMETERS, MOST_OPTIONS, LARGEST = 100, 1000, 10**12
ParameterName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]{0,63}$")]
Bound = Annotated[int, Field(strict=True)] | Annotated[float, Field(strict=True)]
LONGEST_OPTION = 200


class Range(Table):
    """Describes the numbers from `low` to `high`: integers where both are, in steps or on a logarithmic scale."""

    low: Bound
    high: Bound
    step: Bound | None = None
    log: Flag = False

    @property
    def whole(self) -> bool:
        """Tells whether its values are whole numbers."""
        return all(isinstance(value, int) for value in (self.low, self.high, self.step) if value is not None)

    @property
    def count(self) -> int | None:
        """Counts its values; None for a continuous range."""
        if self.step is None and not self.whole:
            return 1 if self.low == self.high else None
        return round((self.high - self.low) / (self.step or 1)) + 1

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low = {self.low} must not be above high = {self.high}")
        if max(abs(self.low), abs(self.high)) > LARGEST:
            raise ValueError(f"a range is within -{LARGEST:,} and {LARGEST:,}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range is above 0: raise low = {self.low}")
        if self.step is None:
            return self
        if self.log:
            raise ValueError("a logarithmic range has no step: leave `step` or `log` out")
        if self.step <= 0:
            raise ValueError(f"step = {self.step} must be above 0")
        steps = round((self.high - self.low) / self.step)
        if abs(self.low + steps * self.step - self.high) > 1e-9 * max(abs(self.high), self.step):
            last = self.low + (self.high - self.low) // self.step * self.step
            raise ValueError(f"no number of steps of {self.step} leads to high = {self.high}: the last is {last:g}")
        return self


def _options(options: tuple[Any, ...]) -> tuple[Any, ...]:
    if not 0 < len(options) <= MOST_OPTIONS:
        raise ValueError(f"expected 1 to {MOST_OPTIONS:,} choices, got {len(options):,}")
    for i, option in enumerate(options):
        if not isinstance(option, (bool, int, float, str)):
            raise ValueError(f"a choice is a text, a number, true or false, not {type(option).__name__}")
        if isinstance(option, str) and len(option) > LONGEST_OPTION:
            raise ValueError(f"a choice has at most {LONGEST_OPTION} characters, not {len(option):,}")
        if isinstance(option, (int, float)) and not abs(option) <= LARGEST:
            raise ValueError(f"a choice is a number within -{LARGEST:,} and {LARGEST:,}")
        if any(option == other for other in options[:i]):  # Optuna takes 1, 1.0 and true for one choice
            raise ValueError(f"the choice {option!r} is given twice")
    return options


Options = Annotated[tuple[Any, ...], BeforeValidator(as_tuple), AfterValidator(_options)]


def _shape(value: Any) -> str:
    return "range" if isinstance(value, Mapping | Range) else "options"


Parameter = Annotated[Annotated[Range, Tag("range")] | Annotated[Options, Tag("options")], Discriminator(_shape)]


def is_fixed(parameter: Range | tuple[Any, ...]) -> bool:
    """Tells whether a parameter has a single possible value."""
    return parameter.count == 1 if isinstance(parameter, Range) else len(parameter) == 1


def only(parameter: Range | tuple[Any, ...]) -> Any:
    """Returns the value of a fixed parameter."""
    return parameter.low if isinstance(parameter, Range) else parameter[0]


def member(parameter: Range | tuple[Any, ...], value: Any) -> Any:
    """Returns the value as the space holds it. Raises ValueError where the space lacks it."""
    if not isinstance(parameter, Range):
        same = [option for option in parameter if type(option) is type(value) and option == value]
        if not same:
            raise ValueError(f"expected one of {', '.join(map(repr, parameter))}")
        return same[0]
    if isinstance(value, bool) or not isinstance(value, int if parameter.whole else int | float):
        raise ValueError(f"expected a {'whole ' if parameter.whole else ''}number")
    if not parameter.low <= value <= parameter.high:
        raise ValueError(f"expected {parameter.low} to {parameter.high}")
    if parameter.step is not None:
        steps = round((value - parameter.low) / parameter.step)
        if abs(parameter.low + steps * parameter.step - value) > 1e-9 * max(abs(value), parameter.step):
            raise ValueError(f"expected a number of steps of {parameter.step} from {parameter.low}")
    return value if parameter.whole else float(value)


def untagged(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Returns pydantic's location without the tag behind a parameter's name or a baseline's number."""
    if location[:1] == ("baselines",) and location[2:3] in (("short",), ("values",)):
        return (*location[:2], *location[3:])
    tagged = location[:3] == ("space", "parameters", "parameters") and location[4:5] in (("range",), ("options",))
    return (*location[:4], *location[5:]) if tagged else location


class ParameterSettings(Table):
    """Holds `[space]` with a table `parameters`: each is a range, a list of choices, or one fixed value."""

    parameters: dict[ParameterName, Parameter] = Field(min_length=1, max_length=MOST_PARAMETERS)

    @property
    def size(self) -> int | None:
        """Counts the combinations; None where a parameter is continuous."""
        size = 1
        for parameter in self.parameters.values():
            count = parameter.count if isinstance(parameter, Range) else len(parameter)
            if count is None:
                return None
            size *= count
        return size
