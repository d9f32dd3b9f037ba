"""Measures how short a training may be and still rank architectures as longer ones do.

    architectures of the space (or of a study)  →  trained for 1, 2 and 4 times the file's steps, with several seeds
    the first of these has the file's rungs     →  Spearman between the quality at every two of these points

Each longer training is one of its own, with a schedule of that length. Two correlations are told. `mean` correlates the
means over the seeds. `across` correlates the short training of one seed with the long one of another, so that no luck
of a seed is shared; between a point and itself it tells how far a repeated training ranks alike, which no shorter
training can beat by much.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from nas import files
from nas.bench import ranking_figure, result_folder
from nas.bench.kept_trainings import FILE, Candidate, KeptTrainings, Say, Training, facts, finished
from nas.bench.rank_correlation import regret, spearman
from nas.errors import UsageError
from nas.settings.study_file import StudyFile
from nas.training.trainer import rung_steps

FOLDER = Path("reports/benchmarks/ranking")
MARKS = {FILE: ("settings", "rows"), "ranking.json": ("study", "points", "correlations")}
FILES = ("ranking.svg", "ranking.png")


@dataclass(frozen=True)
class Settings:
    """Holds the settings; `factors` times the file's steps are trained, the least of them with the file's rungs.

    The shortest trainings have `seeds` seeds, the longer ones the first `long_seeds` of these; None means all.
    """

    file: StudyFile
    candidates: Sequence[Candidate]
    seeds: int = 2
    factors: tuple[float, ...] = (1.0, 2.0, 4.0)
    long_seeds: int | None = None

    def steps(self) -> list[int]:
        """Returns the steps of each length of training."""
        return [max(1, round(factor * self.file.train.steps)) for factor in self.factors]

    def seeds_of(self, steps: int) -> int:
        """Returns how many seeds trainings of that length have."""
        longer = steps > min(self.steps()) and self.long_seeds is not None
        return min(self.seeds, self.long_seeds or self.seeds) if longer else self.seeds

    def trainings(self) -> list[Training]:
        """Lists the trainings, the shortest first."""
        shortest = min(self.steps())
        return [
            Training(candidate, steps, tuple(self.file.train.rungs) if steps == shortest else (1.0,), seed)
            for steps in sorted(self.steps())
            for seed in range(self.seeds_of(steps))
            for candidate in self.candidates
        ]


@dataclass(frozen=True)
class Point:
    """Describes a moment at which architectures are compared: after so many steps of a training of `of` steps."""

    after: int
    of: int
    quality_SN: Sequence[Sequence[float]] = field(repr=False)
    """For each seed, the value of every architecture, to be minimised."""

    @property
    def name(self) -> str:
        return f"{self.after:,}" if self.after == self.of else f"{self.after:,} of {self.of:,}"

    @property
    def mean_N(self) -> list[float]:
        return [fmean(values) for values in zip(*self.quality_SN, strict=True)]


def parse_factors(text: str) -> tuple[float, ...]:
    """Parses "1x,2x,4x" into rising factors. Raises UsageError."""
    try:
        factors = tuple(sorted({float(word.strip().removesuffix("x")) for word in text.split(",")}))
    except ValueError:
        factors = ()
    if not factors or not all(0 < factor <= 1000 for factor in factors):
        raise UsageError(f"cannot read the lengths '{text}'", where="--steps", help="for example 1x,2x,4x")
    return factors


def claim(folder: Path) -> None:
    """Claims the folder before minutes of training.

    Raises Conflict where other programs' files have our names, and OutOfReach when the disk cannot be written.
    """
    result_folder.claim(folder, MARKS, FILES)


def compare(settings: Settings, folder: Path, jobs: int | None, say: Say) -> dict[str, Any]:
    """Makes the trainings that the folder lacks, then ranking.json, ranking.svg and ranking.png; returns ranking.json.

    Raises UsageError for fewer than three architectures, Conflict when the folder holds trainings of other settings.
    """
    if len(settings.candidates) < 3:
        raise UsageError("a ranking needs at least 3 architectures", where="--architectures")
    kept, wanted = KeptTrainings(folder, settings.file), settings.trainings()
    kept.make(wanted, jobs, say)
    points = _points(settings, kept)
    rows = finished(kept, wanted)
    params = [float(kept.rows[training.key]["params"]) for training in wanted[: len(settings.candidates)]]
    result = {
        **facts(settings.file),
        "quality": kept.objective.metric,
        "architectures": len(settings.candidates),
        "seeds": settings.seeds,
        "long_seeds": settings.long_seeds or settings.seeds,
        "points": [_told(point, params) for point in points],
        "correlations": [_row(a, b) for i, a in enumerate(points) for b in points[i:]],
        "failed": sum(bool(row["failed"]) for row in rows),
        "seconds": sum(row["seconds"] for row in rows),
        "rows": rows,
    }
    files.write_json(folder / "ranking.json", result)
    ranking_figure.write(result, folder / "ranking")
    return result


def _points(settings: Settings, kept: KeptTrainings) -> list[Point]:
    """Returns the rungs of the shortest training, then the ends of the longer ones."""
    lengths = sorted(settings.steps())
    rungs = rung_steps(settings.file.train.model_copy(update={"steps": lengths[0]}))
    moments = [*((rung, lengths[0]) for rung in rungs), *((steps, steps) for steps in lengths[1:])]
    return [
        Point(
            after,
            of,
            [[kept.quality(c, of, seed, after) for c in settings.candidates] for seed in range(settings.seeds_of(of))],
        )
        for after, of in dict.fromkeys(moments)
    ]


def _told(point: Point, params: Sequence[float]) -> dict[str, Any]:
    """Describes a point, with the correlation of quality and size: positive where larger is better."""
    finite = [value for value in point.mean_N if math.isfinite(value)]
    return {
        "name": point.name,
        "after": point.after,
        "of": point.of,
        "best": min(finite, default=None),
        "worst": max(finite, default=None),
        "by_params": spearman([([-count for count in params], point.mean_N)]),
    }


def _row(short: Point, long: Point) -> dict[str, Any]:
    """Correlates two points. `regret`: what choosing the best by the short one loses at the long one."""
    both = itertools.product(enumerate(short.quality_SN), enumerate(long.quality_SN))
    pairs = [(one, other) for (s, one), (t, other) in both if s != t]
    lost = regret(short.mean_N, long.mean_N)
    return {
        "short": short.name,
        "long": long.name,
        "mean": spearman([(short.mean_N, long.mean_N)]) if short is not long else None,
        "across": spearman(pairs) if pairs else None,
        "regret": lost if math.isfinite(lost) else None,
    }


def correlation(result: Mapping[str, Any], short: str, long: str) -> Mapping[str, Any]:
    """Returns the row of two points."""
    return next(row for row in result["correlations"] if (row["short"], row["long"]) == (short, long))
