"""Lists the versions of the protocol of measuring; a study keeps the one it was created with, so no front mixes two."""

from dataclasses import dataclass

from nas import bounds
from nas.errors import InvalidStudyFile


@dataclass(frozen=True)
class ProtocolVersion:
    """Holds that in which versions of the protocol differ.

    `alike`: whether every round does the same work, a whole generation or the same sample of its positions, so that
    rounds are exchangeable; else a round goes on where the last one ended. `to_precision`: whether rounds are added
    until the interval of each median is narrow; else `measure.repeats` rounds are enough. `fewest`: so many rounds are
    made in any case, or `measure.repeats` where that is less. `seconds`: the time after which no round is added, if
    there are enough for an interval, or for version 1 enough rounds.
    """

    alike: bool
    to_precision: bool
    fewest: int
    seconds: float


FIRST = 1
"""The version of all studies that store none: the protocol of nas 0.1 and 0.2."""
VERSIONS = {
    FIRST: ProtocolVersion(alike=False, to_precision=False, fewest=bounds.REPEATS, seconds=10.0),
    2: ProtocolVersion(alike=True, to_precision=True, fewest=12, seconds=1.0),
}
NEWEST = max(VERSIONS)


def check(version: int) -> None:
    """Raises InvalidStudyFile for a version that is not in VERSIONS."""
    if version not in VERSIONS:
        known = " or ".join(map(str, VERSIONS))
        text = f"this version of nas has no protocol {version}"
        raise InvalidStudyFile(text, where="measure.protocol", help=f"use {known}, or leave it out for the newest")
