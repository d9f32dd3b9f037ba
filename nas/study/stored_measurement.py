"""Describes how the database stores the way in which a trial's times were measured, with the bounds of each value."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from nas.readings import MOST_CHARACTERS

Name = Annotated[str, Field(max_length=200)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=0, le=10**7)]
FEW = Field(max_length=100)


class StoredCondition(TypedDict):
    """Holds a condition that was not met (nas.measurement.Condition)."""

    name: Literal["interval", "pace", "load"]
    value: Number
    limit: Number
    metric: Name


class StoredMeasurement(TypedDict):
    """Holds the protocol (nas.measure.protocol), the conditions that were not met, and the readings (nas.readings)."""

    protocol: Annotated[dict[Name, Name | Number | int | None], FEW]
    conditions: Annotated[list[StoredCondition], FEW]
    readings: Annotated[dict[Name, Annotated[str, Field(max_length=MOST_CHARACTERS)]], FEW]
    per_round: Annotated[dict[Name, Whole], FEW]
    rounds: Whole


Measurements = Annotated[dict[Name, StoredMeasurement], FEW]
"""Each is kept by the name of its workload: MAIN, or that of a target (nas.measurement.TimedMetrics)."""
