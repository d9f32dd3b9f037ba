"""Families of learning curves in closed form, and what stopping at rungs makes of a search over one of them.

A family has 160 models: 8 sizes × 4 depths × 5 kinds of attention. Larger and deeper models end lower but learn more
slowly, so that curves cross; kinds differ in speed, in where they end and in latency. Losses carry noise, most of which
stays with the model. A search proposes models at random at first, then mostly variations of the best so far.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nas import pareto
from nas.results import Objective, Rung
from nas.running.stopping_rule import StoppingRule, TrialProgress

SIZES, DEPTHS, KINDS = 8, 4, 5
SHARES = (0.25, 0.5, 1.0)
STEPS = tuple(round(share * 400) for share in SHARES)
RANDOM_FIRST, VARIATIONS = 12, 0.7

LOSS_LATENCY = (Objective("val_loss", "min"), Objective("decode_ms_per_token", "min"))
Model = tuple[int, int, int]
"""Size, depth, kind."""
EarlyEndings = Callable[[StoppingRule, dict[int, TrialProgress], int], bool]
"""Whether the trial of that number goes on from the last rung that it has reached, given what is known of all."""


@dataclass(frozen=True)
class Trial:
    cheap: dict[str, float]
    losses: tuple[float, ...]
    """At each rung."""

    def course(self, rungs: int) -> TrialProgress:
        """After so many of them."""
        reached = [Rung(STEPS[i], STEPS[i] / 10, {"val_loss": self.losses[i]}) for i in range(rungs)]
        complete = rungs == len(STEPS)
        final = {"val_loss": self.losses[-1]} if complete else {}
        return TrialProgress({**self.cheap, **final}, reached, complete)

    def final(self, objectives: Sequence[Objective]) -> list[float]:
        return [self.cheap.get(o.metric, self.losses[-1]) for o in objectives]


class Family:
    """`blooms`: the last kind hardly falls before the second rung, and ends lower than all others."""

    def __init__(self, seed: int, *, noise: float = 0.006, blooms: bool = False) -> None:
        self.generator = np.random.default_rng(seed)
        self.noise, self.blooms = noise, blooms
        self.speed, self.latency = self.generator.uniform(0.6, 1.6, KINDS), self.generator.uniform(0.6, 1.5, KINDS)
        self.offset = np.abs(self.generator.normal(0, 0.08, KINDS))

    def trial(self, model: Model) -> Trial:
        size, depth, kind = model
        large = 0.7 * size / (SIZES - 1) + 0.3 * (depth - 1) / (DEPTHS - 1)
        end = 1.0 + 0.75 * (1 - large) ** 1.3 + self.offset[kind] + 0.15 * (depth == 1)
        left = [self._left(share, large, kind) for share in SHARES]
        own = self.generator.normal(0, self.noise)
        jitter = self.generator.normal(0, 0.7 * self.noise, len(SHARES))
        late = self.blooms and kind == KINDS - 1
        losses = [(end - 0.12 * late + x) * math.exp(own + e) for x, e in zip(left, jitter, strict=True)]
        milliseconds = (
            depth * self.latency[kind] * (0.5 + 2 ** (size / 2) / 22) * math.exp(self.generator.normal(0, 0.02))
        )
        weights = float(2**size * depth * (1 + 0.1 * kind))
        return Trial({"decode_ms_per_token": milliseconds, "weights_mib": weights}, tuple(losses))

    def _left(self, share: float, large: float, kind: int) -> float:
        """How far above its end a curve stands."""
        if self.blooms and kind == KINDS - 1:
            return 1.6 * (1 - max(0.0, (share - 0.45) / 0.55) ** 0.7 * 0.95 - 0.05 * share)
        fast = math.exp(-share / (0.08 + 0.12 * self.speed[kind] * (1 + 2 * large)))
        return 0.96 * fast + 0.9 * (share / 0.05 + 1) ** (-0.9 / (1 + 0.6 * large))

    def proposals(self, count: int, objectives: Sequence[Objective]) -> Iterator[Trial]:
        """Distinct models, as trials."""
        seen: dict[Model, list[float]] = {}
        while len(seen) < count:
            model = self._propose(seen, [o.goal for o in objectives])
            if model not in seen:
                trial = self.trial(model)
                seen[model] = trial.final(objectives)
                yield trial

    def _propose(self, seen: dict[Model, list[float]], goals: Sequence[str]) -> Model:
        draw = self.generator.integers
        if len(seen) < RANDOM_FIRST or self.generator.random() > VARIATIONS:
            return int(draw(SIZES)), 1 + int(draw(DEPTHS)), int(draw(KINDS))
        best = pareto.front(list(seen.values()), goals)
        size, depth, kind = list(seen)[best[int(draw(len(best)))]]
        changed = (
            (int(np.clip(size + draw(-1, 2), 0, SIZES - 1)), depth, kind),
            (size, int(np.clip(depth + draw(-1, 2), 1, DEPTHS)), kind),
            (size, depth, int(draw(KINDS))),
        )
        return changed[int(draw(3))]


@dataclass(frozen=True)
class Outcome:
    """`saved`: the share of all training steps. `lost`: the share of the hypervolume of all trials trained in full.

    `missed`: members of that front that were stopped, of `front`. `stopped`: by number.
    """

    saved: float
    lost: float
    stopped: tuple[int, ...]
    missed: int
    front: int


def search(
    trials: Sequence[Trial], objectives: Sequence[Objective], goes_on: EarlyEndings, workers: int = 1
) -> Outcome:
    """All of them, so many side by side and all equally fast."""
    stopping, known, stopped, trained = StoppingRule(objectives, ()), dict[int, TrialProgress](), list[int](), 0.0
    waiting = list(range(len(trials)))
    running = [(SHARES[0], number, 1) for number in waiting[:workers]]
    waiting = waiting[workers:]
    while running:
        running.sort()
        time, number, rungs = running.pop(0)
        trained += SHARES[rungs - 1] - (SHARES[rungs - 2] if rungs > 1 else 0.0)
        known[number] = trials[number].course(rungs)
        stopping.update(number, known[number])
        ends = rungs == len(SHARES)
        if not ends and goes_on(stopping, known, number):
            running.append((time + SHARES[rungs] - SHARES[rungs - 1], number, rungs + 1))
            continue
        stopped += [] if ends else [number]
        if waiting:
            running.append((time + SHARES[0], waiting.pop(0), 1))
    goals, values = [o.goal for o in objectives], [trial.final(objectives) for trial in trials]
    best = pareto.front(values, goals)
    reference = pareto.reference_point(values, goals)
    kept = [value for number, value in enumerate(values) if number not in stopped]
    lost = 1 - pareto.hypervolume(kept, goals, reference) / pareto.hypervolume(values, goals, reference)
    return Outcome(1 - trained / len(trials), lost, tuple(stopped), len(set(best) & set(stopped)), len(best))


def ours(stopping: StoppingRule, known: dict[int, TrialProgress], number: int) -> bool:
    return stopping.verdict(number) is None


def never_stopped(stopping: StoppingRule, known: dict[int, TrialProgress], number: int) -> bool:
    return True
