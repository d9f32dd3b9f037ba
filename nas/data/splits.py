"""Cuts a text into the splits for training, validation and test."""

from collections.abc import Mapping
from typing import Literal

from nas.errors import DataError

SplitRule = Literal["80/10/10", "90/10"]
Splits = dict[str, tuple[int, int]]


def spans_of(lengths: Mapping[str, int], rule: SplitRule, context: int) -> Splits:
    """Cuts by the parts that the source names, else by the rule.

    `lengths`: part → its characters, in reading order: training, validation, test, or one without a name. What has no
    part of its own is a tenth of the training text. Raises DataError when a split cannot hold context + 1 characters.
    """
    train, val, test = (lengths.get(name, 0) for name in ("train", "val", "test"))
    train += lengths.get("", 0)
    if not (val or test):
        return splits(train, rule, context)
    kept = train if val and test else train * 9 // 10
    end = train + val
    spans: Splits = {
        "train": (0, kept),
        "val": (train, end) if val else (kept, train),
        "test": (end, end + test) if test else (kept, train),
    }
    check_length(spans, context, "characters")
    return spans


def splits(characters: int, rule: SplitRule, context: int) -> Splits:
    """[start, end) of train, val and test. Raises DataError when one cannot hold context + 1 characters.

    "90/10" validates and tests on the same last tenth: for comparison with published figures alone.
    """
    eight, nine = characters * 8 // 10, characters * 9 // 10
    if rule == "90/10":
        spans: Splits = {"train": (0, nine), "val": (nine, characters), "test": (nine, characters)}
    else:
        spans = {"train": (0, eight), "val": (eight, nine), "test": (nine, characters)}
    check_length(spans, context, "characters")
    return spans


def check_length(spans: Splits, context: int, unit: str) -> None:
    """Raises DataError when a split cannot hold context + 1 of them."""
    shortest = min(spans, key=lambda name: spans[name][1] - spans[name][0])
    whole = max(end for _, end in spans.values())
    length = spans[shortest][1] - spans[shortest][0]
    if length < context + 1:
        fits = f"use context = {length - 1} or less, or a longer text" if length > 2 else "use a longer text"
        raise DataError(
            f"the text is too short for context {context}",
            code="corpus-too-short",
            where="task.corpus",
            detail=f"{whole} {unit} leave {length} for '{shortest}', which needs {context + 1}",
            help=fits,
        )
