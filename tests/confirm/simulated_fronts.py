"""Simulated fronts whose seed noise is known: races over them are counted, with what they got wrong.

`python -m tests.confirm.simulated_fronts` prints the table of docs/results.md.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.confirm.race import Race, Standing

Floats = NDArray[np.float64]
Noise = Callable[[np.random.Generator, int, int], Floats]


def even(generator: np.random.Generator, members: int, seeds: int) -> Floats:
    return generator.standard_normal((members, seeds))


def shared(generator: np.random.Generator, members: int, seeds: int) -> Floats:
    """Half of the variance is a seed's own, the same for every member."""
    return np.sqrt(0.5) * (even(generator, 1, seeds) + even(generator, members, seeds))


def unequal(generator: np.random.Generator, members: int, seeds: int) -> Floats:
    """The members' standard deviations lie between 1/3 and 3."""
    return even(generator, members, seeds) * np.exp(generator.uniform(-np.log(3), np.log(3), (members, 1)))


def heavy(generator: np.random.Generator, members: int, seeds: int) -> Floats:
    """Student's t with 3 degrees of freedom, of variance 1."""
    return generator.standard_t(3, (members, seeds)) / np.sqrt(3)


NOISES: dict[str, Noise] = {
    "normal": even,
    "seeds that disturb all alike": shared,
    "unequal spreads": unequal,
    "heavy tails": heavy,
}


@dataclass(frozen=True)
class Outcome:
    """`errors`: share of fronts with equal members told apart, or with an order proven wrong. `power`: share of the
    neighbours `gap` apart that were told apart. `trainings`: share of `most` seeds for all.
    """

    errors: float
    power: float
    trainings: float


def simulate(fronts: int, gap: float = 3.0, twins: int = 2, noise: str = "normal", most: int = 8) -> Outcome:
    """Races over fronts of 8 members; `twins` pairs of neighbours are equal, the other neighbours are `gap` apart."""
    generator, members, wrong, found, neighbours, trainings = np.random.default_rng(18), 8, 0, 0, 0, 0
    for _ in range(fronts):
        equal = twin_places(generator, members, twins)
        truth = np.concatenate([[0.0], np.cumsum(np.where(equal, 0.0, gap))])
        values_MS = truth[:, None] + NOISES[noise](generator, members, most)
        standing, spent = raced(values_MS, most)
        trainings += spent
        place = {member: i for i, member in enumerate(standing.order)}
        wrong += any(truth[a] == truth[b] or place[a] > place[b] for a, b in standing.apart)
        apart = [(i, i + 1) in standing.apart for i in range(members - 1) if not equal[i]]
        found, neighbours = found + sum(apart), neighbours + len(apart)
    return Outcome(wrong / fronts, found / max(neighbours, 1), trainings / (fronts * members * most))


def twin_places(generator: np.random.Generator, members: int, twins: int) -> NDArray[np.bool_]:
    """Chooses the pairs of neighbours that are equal; no two of them share a member."""
    while True:
        chosen = np.sort(generator.choice(members - 1, twins, replace=False))
        if (np.diff(chosen) > 1).all():
            return np.isin(np.arange(members - 1), chosen)


def raced(values_MS: Floats, most: int) -> tuple[Standing, int]:
    """Trains what the race asks for until it ends; returns its last standing and the trainings spent."""
    race, values = Race(("min",), most), {member: list[list[float]]() for member in range(len(values_MS))}
    while wanted := race.wanted(values):
        for member in wanted:
            values[member].append([float(values_MS[member, len(values[member])])])
    return race.standing(values), sum(map(len, values.values()))


if __name__ == "__main__":
    cases = [(noise, 3.0, 2) for noise in NOISES] + [("normal", gap, 2) for gap in (1.5, 2.0, 2.5)] + [("normal", 0, 0)]
    for noise, gap, twins in cases:
        outcome = simulate(2000, gap, twins, noise)
        print(f"{noise}, gap {gap:g}, {twins} pairs of twins: {outcome}", flush=True)  # noqa: T201
