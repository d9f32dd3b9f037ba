"""Describes how the attention maps of a trained model are stored, with the bounds of each value."""

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

Text = Annotated[str, Field(max_length=100_000)]
Number = Annotated[float, Field(allow_inf_nan=False)] | bool


class StoredLayer(TypedDict):
    """Holds the attention of one block: [heads][tokens that look][tokens looked at]."""

    name: Annotated[str, Field(max_length=200)]
    kind: Text
    to_source: bool
    weights: Annotated[list[list[list[Number]]], Field(max_length=1000)]


class StoredMaps(TypedDict):
    tokens: list[Text]
    source_tokens: list[Text]
    maps: Annotated[list[StoredLayer], Field(max_length=1000)]
