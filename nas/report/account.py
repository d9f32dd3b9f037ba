"""Computes what the search saved and how well it predicted: for the page as sentences, for programs as
`search.json`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from nas.confirm.certainty import Certainty
from nas.formatting import duration, fixed, percent
from nas.report import words
from nas.report.effort import PROMISE, BoundCheck, Effort
from nas.report.health import Health, health_of
from nas.report.importance import FEWEST, Importance
from nas.report.ranking import FEWEST as FEWEST_RANKED
from nas.report.ranking import Correlation, Ranking, rankings
from nas.results import StudyRecord


@dataclass(frozen=True)
class Account:
    record: StudyRecord
    effort: Effort
    bounds: BoundCheck
    rankings: tuple[Ranking, ...]
    importances: tuple[Importance, ...]
    health: Health

    @classmethod
    def of(cls, record: StudyRecord) -> Self:
        importances = tuple(Importance.of(record, objective) for objective in record.objectives)
        ranked, health = tuple(rankings(record)), health_of(record)
        return cls(record, Effort.of(record), BoundCheck.of(record), ranked, importances, health)

    def write(self, folder: Path) -> None:
        """Writes search.json."""
        text = json.dumps(self.data(), indent=2, ensure_ascii=False, allow_nan=False)
        (folder / "search.json").write_text(text + "\n", encoding="utf-8")

    def data(self) -> dict[str, Any]:
        """Returns the account as plain values; null where a value is not known."""
        effort, bounds = self.effort, self.bounds
        return {
            "saved": {
                "stopped": {"trials": effort.stopped, "trainings": effort.trainings, "seconds": effort.seconds},
                "skipped": {"trials": effort.skipped},
                "infeasible": {"trials": effort.infeasible},
                "duplicates": {"draws": effort.redraws},
            },
            "confirmed": certainty.plain() if (certainty := Certainty.of(self.record)) else None,
            "bounds": {"trials": bounds.trials, "missed": bounds.missed, "objectives": bounds.objectives},
            "ranking": [
                {
                    "metric": ranking.objective.metric,
                    "known": ranking.known,
                    "predicted": _plain(ranking.predicted),
                    "params": _plain(ranking.params),
                }
                for ranking in self.rankings
            ],
            "importance": [
                {
                    "metric": importance.objective.metric,
                    "trials": importance.trials,
                    "r2": importance.r2,
                    "shares": dict(importance.shares),
                }
                for importance in self.importances
            ],
            "health": [check.data() for check in self.health],
        }

    def saved(self) -> str:
        """Tells in a few sentences what was not trained; empty where everything was."""
        return " ".join(filter(None, (self._stopped(), self._untrained(), self._duplicates())))

    def _stopped(self) -> str:
        effort, trained = self.effort, self.record.trained_count()
        if not effort.stopped:
            on = self.record.settings.get("search", {}).get("stopping", False)
            return "No trial was stopped at a rung." if on and trained else ""
        saved = "" if effort.trainings is None else f", which saved {fixed(effort.trainings, 1)} full trainings"
        time = f", or {duration(effort.seconds)}" if effort.seconds else ""
        return f"{effort.stopped} of {words.plural(trained, 'trained trial')} ended early at a rung{saved}{time}."

    def _untrained(self) -> str:
        whys = {
            "since even the optimistic forecast was dominated": self.effort.skipped,
            "over a limit": self.effort.infeasible,
        }
        told = [f"{words.plural(count, 'trial')} {why}" for why, count in whys.items() if count]
        return f"Measured, but never trained: {words.listed(told)}." if told else ""

    def _duplicates(self) -> str:
        drawn = "choice of parameters" if self.record.subject == "parameters" else self.record.subject
        match self.effort.redraws:
            case None:
                return ""
            case 0:
                return f"No {drawn} was drawn twice."
            case count:
                times = words.plural(count, "time")
                article = "a" if drawn.startswith("choice") else "an"
                return f"{times} the sampler drew {article} {drawn} that the study already had, and drew again."

    def bound_sentence(self) -> str:
        """Tells how many bounds did not hold; empty where there is none.
        A bound is built to be beaten by one trial in 50 at most.
        """
        bounds = self.bounds
        if not bounds.trials:
            return ""
        share = f"{bounds.missed} ({percent(bounds.missed / bounds.trials)})" if bounds.missed else "none"
        most = round(100 * PROMISE) * bounds.objectives
        where = "the trained objective" if bounds.objectives == 1 else "one of the trained objectives"
        return (
            f"The optimistic forecast was kept for {words.plural(bounds.trials, 'trial')} "
            f"trained in full: {share} ended better than it in {where}; at most {most} in 100 should."
        )

    def ranked(self) -> list[tuple[str, str, str, int]]:
        """Lists (objective, how well the model ranked, how well size alone did, over how many trials)."""
        return [
            (r.objective.metric, "known" if r.known else _rank(r.predicted), _by_size(r.params), r.predicted.trials)
            for r in self.rankings
        ]

    def unsaid(self) -> list[str]:
        """Says why there is no importance for an objective."""
        return [f"{i.objective.metric}: {_why(i)}." for i in self.importances if not i.shares]


def _why(importance: Importance) -> str:
    if importance.trials < FEWEST:
        return f"too few trials ({importance.trials} have a value, and {FEWEST} are needed)"
    if importance.r2 is None:
        return "the trials do not differ"
    return f"too few trials: a forest from {importance.trials} predicts others no better than the mean does"


def _rank(correlation: Correlation) -> str:
    if correlation.rho is None:
        return "too few trials" if correlation.trials < FEWEST_RANKED else "all equal"
    return fixed(correlation.rho, 2).replace("-", "−")


def _by_size(correlation: Correlation) -> str:
    if correlation.rho is None:
        return _rank(correlation)
    return f"{fixed(abs(correlation.rho), 2)}, {'rising' if correlation.rho >= 0 else 'falling'}"


def _plain(correlation: Correlation) -> dict[str, Any]:
    return {"spearman": correlation.rho, "trials": correlation.trials}
