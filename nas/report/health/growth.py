"""Checks whether the front still grows, and estimates what as many trials again would bring."""

from collections.abc import Sequence

from nas.formatting import percent
from nas.report.health.check import Check, Verdict
from nas.report.summary import Summary
from nas.results import StudyRecord

FEWEST = 16
"""Nothing is estimated from fewer trained trials."""
LITTLE = 0.01
"""A growth up to this share of the hypervolume counts as none."""


def growth(record: StudyRecord) -> Check:
    """Tells what the last quarter of the trained trials added to the hypervolume, and what the same number again may
    bring.
    """
    history = Summary.of(record).history
    volumes = history.volumes if history else ()
    if len(volumes) < FEWEST or not volumes[-1]:
        text = f"{len(volumes)} trained trials are too few to tell; {FEWEST} are needed."
        return Check("growth", Verdict.UNKNOWN, text, {"trials": len(volumes)})
    count, last = len(volumes), volumes[-1]
    quarter = (last - volumes[count - count // 4 - 1]) / last
    expected, most = doubled(volumes)
    numbers = {"trials": count, "last_quarter": quarter, "same_again": expected / last, "at_most": most / last}
    text = (
        f"The last quarter of {count} trained trials added {percent(quarter, 1)} to the hypervolume. As many trials "
        f"again may add about {percent(expected / last, 1)}, hardly more than {percent(most / last, 1)}."
    )
    if expected / last > LITTLE:
        return Check("growth", Verdict.LOOK, f"{text} The front still grows.", numbers)
    return Check("growth", Verdict.OK, text, numbers)


def doubled(volumes: Sequence[float]) -> tuple[float, float]:
    """Returns what doubling the number of trials is expected to add, and what it hardly exceeds.

    The gains of the last two doublings, from n / 4 to n / 2 and from there to n, are continued as a geometric series.
    The second doubling's own gain is the larger estimate: improvements that fall as 1 / n bring it again each time.
    """
    count = len(volumes)
    half, quarter = volumes[(count + 1) // 2 - 1], volumes[(count + 3) // 4 - 1]
    newer, older = volumes[-1] - half, half - quarter
    falls = min(newer / older, 1.0) if older > 0 else 1.0
    return newer * falls, newer
