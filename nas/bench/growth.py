"""Measures whether small architectures that win still win when they have grown.

architectures of the space (or of a study)  →  trained as they are, by the file's steps
each widened and deepened (nas.bench.grown) →  trained for `factor` times these steps
Spearman between both qualities, with an interval, and where the best small one ranks among the grown
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from pathlib import Path
from statistics import fmean
from typing import Any

from scipy.stats import rankdata

from nas import files
from nas.bench import growth_figure, result_folder
from nas.bench.grown import grow
from nas.bench.kept_trainings import FILE, Candidate, KeptTrainings, Say, Training, facts, finished
from nas.bench.rank_correlation import regret, spearman
from nas.bench.reference import parameters
from nas.errors import UsageError
from nas.settings.study_file import StudyFile
from nas.tasks import open_task

FOLDER = Path("reports/benchmarks/growth")
MARKS = {FILE: ("settings", "rows"), "growth.json": ("study", "times", "pairs")}
FILES = ("growth.svg", "growth.png")


@dataclass(frozen=True)
class Settings:
    """Holds the settings: grown architectures have `times` the parameters and train for `factor` times the steps."""

    file: StudyFile
    candidates: Sequence[Candidate]
    times: float = 4.0
    seeds: int = 1
    factor: float = 1.0


def claim(folder: Path) -> None:
    """Claims the folder before minutes of training.

    Raises Conflict where other programs' files have our names, and OutOfReach when the disk cannot be written.
    """
    result_folder.claim(folder, MARKS, FILES)


def compare(settings: Settings, folder: Path, jobs: int | None, say: Say) -> dict[str, Any]:
    """Makes the trainings that the folder lacks, then growth.json, growth.svg and growth.png; returns growth.json.

    Raises UsageError for fewer than three architectures, Conflict when the folder holds trainings of other settings.
    """
    if len(settings.candidates) < 3:
        raise UsageError("a ranking needs at least 3 architectures", where="--architectures")
    kept, small = KeptTrainings(folder, settings.file), list(settings.candidates)
    count = partial(parameters, task=open_task(settings.file.task))
    grown = [Candidate(grow(c.architecture, settings.times, count), c.learning_rate) for c in small]
    steps = settings.file.train.steps, max(1, round(settings.factor * settings.file.train.steps))
    wanted = [
        Training(candidate, length, (1.0,), seed)
        for seed in range(settings.seeds)
        for candidates, length in zip((small, grown), steps, strict=True)
        for candidate in candidates
    ]
    kept.make(list({training.key: training for training in wanted}.values()), jobs, say)
    result = {
        **facts(settings.file),
        "quality": kept.objective.metric,
        "architectures": len(small),
        "seeds": settings.seeds,
        "times": settings.times,
        "steps": {"small": steps[0], "grown": steps[1]},
        **_compared(kept, (small, grown), steps, settings.seeds),
        "rows": finished(kept, wanted),
    }
    files.write_json(folder / "growth.json", result)
    growth_figure.write(result, folder / "growth")
    return result


def _compared(
    kept: KeptTrainings, sides: tuple[Sequence[Candidate], Sequence[Candidate]], steps: tuple[int, int], seeds: int
) -> dict[str, Any]:
    """Returns the correlations, the winner's place, and a row for each pair of a small architecture and its form."""
    quality = [
        [[kept.quality(c, length, seed, length) for c in side] for seed in range(seeds)]
        for side, length in zip(sides, steps, strict=True)
    ]
    small, grown = ([fmean(values) for values in zip(*side, strict=True)] for side in quality)
    params = [
        [int(kept.rows[c.key, length, 0]["params"]) for c in side] for side, length in zip(sides, steps, strict=True)
    ]
    across = [(quality[0][s], quality[1][t]) for s, t in permutations(range(seeds), 2)]
    lost, places = regret(small, grown), rankdata(grown, method="min").astype(int).tolist()
    return {
        "correlation": spearman([(small, grown)]),
        "across": spearman(across) if across else None,
        "by_params": spearman([([-count for count in params[0]], grown)]),
        "winner": {"place": places[small.index(min(small))], "regret": lost if math.isfinite(lost) else None},
        "failed": sum(not math.isfinite(value) for value in (*small, *grown)),
        "pairs": [_pair(*row) for row in zip(*sides, small, grown, *params, strict=True)],
    }


def _pair(small: Candidate, grown: Candidate, before: float, after: float, few: int, many: int) -> Mapping[str, Any]:
    """Describes an architecture and its larger form; a quality is None where training diverged."""
    values = [value if math.isfinite(value) else None for value in (before, after)]
    return {
        "small": str(small.architecture),
        "grown": str(grown.architecture),
        "small_params": few,
        "grown_params": many,
        "small_quality": values[0],
        "grown_quality": values[1],
    }
