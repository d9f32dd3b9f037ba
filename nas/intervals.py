"""Computes with spans of time, (start, end) in Unix seconds: how long work took without its pauses."""

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

Span = tuple[float, float]


def steady_clock(now: float | None = None) -> Callable[[], float]:
    """Returns a clock of Unix seconds, set once: setting the machine's clock meanwhile changes no duration.

    It starts at `now`, by default the machine's own time.
    """
    start, base = time.time() if now is None else now, time.monotonic()
    return lambda: start + time.monotonic() - base


def union(spans: Iterable[Span]) -> list[Span]:
    """Joins spans into ones that do not touch, in order. Spans that end before they start hold none."""
    merged: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] <= span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def seconds(spans: Iterable[Span], until: float = math.inf) -> float:
    """Returns the length of the union, as far as it lies before that moment."""
    return math.fsum(min(end, until) - start for start, end in union(spans) if start < until)


def seconds_before(spans: Iterable[Span], moments: Sequence[float]) -> list[float]:
    """Returns what `seconds` gives for each of the moments, in time n log n in all."""
    merged = union(spans)
    starts, before = [start for start, _ in merged], [0.0, *accumulate(end - start for start, end in merged)]
    found = []
    for moment in moments:
        begun = bisect_left(starts, moment)
        after = max(0.0, merged[begun - 1][1] - moment) if begun else 0.0
        found.append(before[begun] - after)
    return found


def attempts(
    stored: Sequence[Sequence[float | None]], finished: float | None, working: Sequence[Span]
) -> tuple[Span, ...]:
    """Returns the spans in which a trial was running: each attempt until it was put back, or the trial ended.

    The end of an attempt whose driver was killed is not stored. Such an attempt lasted as long as drivers worked
    (`working`, a union), and no longer than until the next attempt.
    """
    spans = []
    for i, (start, end) in enumerate(stored):
        if start is None:
            continue
        following = [s for s, _ in stored[i + 1 :] if s is not None]
        if end is None and not following and finished is not None:
            end = finished
        if end is None:
            last = next((e for s, e in working if s <= start <= e), start)
            end = min([last, *following])
        spans.append((start, max(start, end)))
    return tuple(spans)
