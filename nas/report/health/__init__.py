"""This package checks whether a search can be trusted, from its stored rows: a verdict with numbers for each question.

A verdict is `ok`, `look` (something that the reader should know before using the front) or `unknown`: the study has too
few trials to tell, and the text says how many there are.
"""

from nas.report.health.baselines import baselines
from nas.report.health.check import Check, Health
from nas.report.health.edges import edges
from nas.report.health.endings import skipping, stopping
from nas.report.health.growth import growth
from nas.report.health.ranks import predictions, rungs
from nas.results import StudyRecord

__all__ = ["Check", "Health", "health_of"]

CHECKS = (baselines, stopping, skipping, predictions, rungs, edges, growth)


def health_of(record: StudyRecord) -> Health:
    """Makes every check."""
    return Health(tuple(check(record) for check in CHECKS))
