"""Defines frozen values with a canonical form, from which architectures are made, and the sizes that they hold."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from nas import bounds

Flag = Annotated[bool, Field(strict=True)]
"""True or false, and neither "yes" nor 1."""
Whole = Annotated[int, Field(strict=True)]
"""A whole number: neither 2.0, "2" nor true."""
Real = Annotated[float, Field(strict=True)]
"""A number: neither "2" nor true."""
Size = Annotated[Whole, Field(gt=0, le=bounds.FEATURES)]
Heads = Annotated[Whole, Field(gt=0, le=bounds.HEADS)]
HeadSize = Annotated[Whole, Field(gt=0, le=bounds.HEAD_SIZE)]
Tokens = Annotated[Whole, Field(gt=0, le=bounds.CONTEXT)]
Hidden = Annotated[Whole, Field(gt=0, le=bounds.HIDDEN)]
Passes = Annotated[Whole, Field(gt=0, le=bounds.REPEATED_BLOCKS)]


class Spec(BaseModel):
    """Describes a frozen value that knows its canonical form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def canonical(self) -> dict[str, Any]:
        """Returns plain data without the fields at their defaults, so that a new field keeps old ids."""
        data: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            default = field.get_default(call_default_factory=True, validated_data=self.__dict__)
            if name == "kind" or value != default:
                data[name] = _plain(value)
        return data


def _plain(value: Any) -> Any:
    if isinstance(value, Spec):
        return value.canonical()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
