"""Measures what drawing the candidates of a proposal costs, in CPU time of one thread.

    python -m tests.samplers.draw_costs [--candidates 1000] [--repeats 15]

It prints medians in milliseconds for a space of 18 parameters: six choices, six integers, six numbers on a logarithm.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from nas.samplers.candidates import RandomChooser, draw_candidate, neighbour, space_from_trials
from nas.samplers.known_choices import KnownChoices

NAMES = [(f"choice{i}", f"integer{i}", f"number{i}") for i in range(6)]


def space(chooser: Any) -> Any:
    for choice, integer, number in NAMES:
        chooser.suggest_categorical(choice, ("a", "b", "c", "d"))
        chooser.suggest_int(integer, 1, 16)
        chooser.suggest_float(number, 1e-4, 1.0, log=True)
    return chooser.params


def median_ms(work: Callable[[], object], repeats: int) -> float:
    work()
    found = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        found.append(1000 * (time.process_time() - started))
    return statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=15)
    given = parser.parse_args()
    generator, known = random.Random(0), KnownChoices()
    parent = draw_candidate(space, RandomChooser(generator, known=known))

    def draws() -> list[Any]:
        return [draw_candidate(space, RandomChooser(generator, known=known)) for _ in range(given.candidates)]

    def neighbours() -> list[Any]:
        return [neighbour(space, parent, generator, known) for _ in range(given.candidates)]

    print(f"{given.candidates:,} draws of the space: {median_ms(draws, given.repeats):.1f} ms")  # noqa: T201
    learned = space_from_trials([(parent.params, parent.distributions)])

    def shown() -> list[Any]:
        return [draw_candidate(learned, RandomChooser(generator, known=known)) for _ in range(given.candidates)]

    print(f"{given.candidates:,} draws of a space learned from trials: {median_ms(shown, given.repeats):.1f} ms")  # noqa: T201
    print(f"{given.candidates:,} neighbours of a trial: {median_ms(neighbours, given.repeats):.1f} ms")  # noqa: T201


if __name__ == "__main__":
    main()
