"""Decides which members of a front need one more seed, and which of them are proven to differ.

A race looks at the results after `first` seeds, then after each further one, until `most`. At every look it tests each
pair of members in each trained objective. The family of all these tests, all looks included, errs with a probability of
at most `error`:

- A look after n of N seeds may spend the share (n/N)² of `error`, less what earlier looks spent (Lan and DeMets 1983;
  Kim and DeMets 1987). A p-value is divided by the look's own share, and the smallest of these over the looks counts.
- Holm (1979) orders the results over pairs and objectives.

Both are union bounds: they hold however the tests depend on one another.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from nas.confirm.differences import Difference, Floats, Layout
from nas.results import Goal

HOPELESS = 0.02
"""A pair gets no more seeds where the probability that they will tell it apart is lower."""

LEAST = 2
"""No look is taken after fewer seeds: one value has no variance."""

Pair = tuple[int, int]
"""Two members in ascending order."""
Values = Mapping[int, Sequence[Sequence[float]]]
"""Member → one row of trained objectives for each seed, in the order of the seeds, which all members share."""


@dataclass(frozen=True)
class Standing:
    """Tells what a race knows after its last look."""

    order: tuple[int, ...]
    """The members, best first by the mean of the first objective."""
    apart: frozenset[Pair]
    """The pairs that are proven to differ in some objective."""
    wanted: frozenset[int]
    """The members that the next look needs."""
    seeds: int
    """The seeds of the last look; 0 before the first."""

    def ties(self, member: int) -> tuple[int, ...]:
        """Returns the members that cannot be told apart from this one, in order."""
        return tuple(other for other in self.order if other != member and _pair(member, other) not in self.apart)

    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Returns the longest runs of members, along the order, in which no two can be told apart.

        Runs may overlap, as "not proven to differ" is not transitive. These are the letters of a compact letter display
        (Piepho 2004).
        """
        found: list[tuple[int, ...]] = []
        for start in range(len(self.order)):
            end = start + 1
            while end < len(self.order) and not self._differ(self.order[start:end], self.order[end]):
                end += 1
            if not found or self.order[end - 1] not in found[-1]:
                found.append(self.order[start:end])
        return tuple(found)

    def _differ(self, members: Iterable[int], other: int) -> bool:
        return any(_pair(member, other) in self.apart for member in members)


@dataclass(frozen=True)
class Race:
    """Holds the rules of a race: the goals of the trained objectives, its numbers of seeds, its error."""

    goals: tuple[Goal, ...]
    most: int
    first: int = 3
    error: float = 0.05

    def wanted(self, values: Values) -> list[int]:
        """Returns the members that need one more seed: those of every pair of neighbours that may still be told apart.

        Neighbours stand side by side by the mean of the first objective. An empty list ends the race. Results may come
        in any order: a look waits until each member that it needs has its values.
        """
        return sorted(self.standing(values).wanted)

    def standing(self, values: Values) -> Standing:
        """Replays the race, look by look, on the values so far; it depends on nothing else.

        Members with more values than the race asked for are tested with these too.
        """
        smallest: dict[tuple[Pair, int], float] = {}
        now = Standing(tuple(sorted(values)), frozenset(), frozenset(values if self.goals else ()), 0)
        for seeds in range(min(self.first, self.most), self.most + 1):
            missing = frozenset(member for member in now.wanted if len(values[member]) < seeds)
            if missing:
                return Standing(now.order, now.apart, missing, now.seeds)
            racing = frozenset(member for member in values if len(values[member]) >= seeds)
            if not racing or not self.goals:
                break
            if seeds >= LEAST:
                now = self._look(values, seeds, racing, smallest)
        return now if now.seeds else Standing(now.order, now.apart, frozenset(), 0)

    def share(self, seeds: int) -> float:
        """Returns the share of the error that the look after so many seeds may spend."""
        before = seeds - 1 if seeds > self.first else 0
        return (seeds / self.most) ** 2 - (before / self.most) ** 2

    def _look(
        self, values: Values, seeds: int, racing: frozenset[int], smallest: dict[tuple[Pair, int], float]
    ) -> Standing:
        """Tests the racing members with so many seeds. `smallest` keeps each test's smallest p-value over the looks."""
        members, objectives = sorted(values), range(len(self.goals))
        if len(members) < 2:
            return Standing(tuple(members), frozenset(), frozenset(), seeds)
        layouts = [Layout(_table(values, members, seeds, objective)) for objective in objectives]
        place = {member: i for i, member in enumerate(members)}
        found = {
            ((one, other), o): Difference.of(layouts[o], place[one], place[other])
            for one, other in combinations(sorted(racing), 2)
            for o in objectives
        }
        for key, difference in found.items():
            smallest[key] = min(smallest.get(key, np.inf), difference.p / self.share(seeds))
        tests = len(members) * (len(members) - 1) // 2 * len(self.goals)
        rejected = holm(smallest, tests, self.error)
        apart = frozenset(pair for pair, _ in rejected)
        sign = 1.0 if self.goals[0] == "min" else -1.0
        order = tuple(members[i] for i in np.argsort(sign * layouts[0].means_M, kind="stable"))
        level = self.error * self.share(self.most) / max(1, tests - len(rejected))
        wanted = set[int]()
        for pair in (_pair(*beside) for beside in pairwise(order) if racing.issuperset(beside)):
            if pair not in apart and any(found[pair, o].power(self.most, level) >= HOPELESS for o in objectives):
                wanted |= {*pair}
        return Standing(order, apart, frozenset(wanted), seeds)


def holm(p: Mapping[tuple[Pair, int], float], tests: int, error: float) -> set[tuple[Pair, int]]:
    """Returns the hypotheses that Holm (1979) rejects: in order of p, while p ≤ error / (tests − rejected)."""
    rejected = set[tuple[Pair, int]]()
    for key, value in sorted(p.items(), key=lambda item: item[1]):
        if value > error / (tests - len(rejected)):
            break
        rejected.add(key)
    return rejected


def _table(values: Values, members: Sequence[int], seeds: int, objective: int) -> Floats:
    """Returns one objective of the first seeds, (members, seeds)."""
    table_MS = np.full((len(members), seeds), np.nan)
    for i, member in enumerate(members):
        row = [found[objective] for found in values[member][:seeds]]
        table_MS[i, : len(row)] = row
    return table_MS


def _pair(one: int, other: int) -> Pair:
    return (one, other) if one < other else (other, one)
