"""Checks the bounds of a search space on its lists alone, before any combination is made."""

from collections.abc import Mapping
from math import prod
from typing import Any

from nas import bounds
from nas.architecture import too_large
from nas.errors import InvalidStudyFile
from nas.space.settings import SpaceSettings
from nas.toml_table import as_tuple


def check_size(settings: SpaceSettings, where: str) -> None:
    """Raises InvalidStudyFile for a list, a number of combinations or a largest model beyond nas.bounds."""
    for key in ("attention", "encoder_attention", "cross"):
        entries: tuple[Mapping[str, Any], ...] = getattr(settings, key)
        _check_lists(entries, f"{where}.{key}")
        combinations = sum(prod(len(as_tuple(value)) for value in entry.values()) for entry in entries)
        positions = 1 if key == "cross" else len(settings.position or (None,))
        _check_count(
            combinations * len(settings.hidden) * positions, bounds.COMBINATIONS, "attention", f"{where}.{key}"
        )
    fed = settings.feed_forward
    forms = len(fed.kind) * len(fed.ratio) * len(fed.bias) * len(settings.norm) * len(settings.residual)
    _check_count(forms, bounds.FORMS, "feed_forward, norm and residual", f"{where}.feed_forward")
    blocks = max(*settings.depth, *(settings.encoder_depth or (0,)))
    if problem := too_large(max(settings.hidden), blocks, max(settings.repeat)):
        raise InvalidStudyFile(problem[0], where=f"{where}.depth", help=problem[1])


def _check_lists(entries: tuple[Mapping[str, Any], ...], where: str) -> None:
    for i, entry in enumerate(entries):
        for name, value in entry.items():
            count = len(as_tuple(value))
            if not 0 < count <= bounds.CHOICES:
                text = f"expected at least one choice and at most {bounds.CHOICES:,}, got {count:,}"
                raise InvalidStudyFile(text, where=f"{where}[{i}].{name}", help="shorten the list")


def _check_count(count: int, most: int, what: str, where: str) -> None:
    if count > most:
        text = f"{count:,} combinations of {what} are more than {most:,}"
        raise InvalidStudyFile(text, where=where, help="shorten the lists: the sampler needs no fine steps")
