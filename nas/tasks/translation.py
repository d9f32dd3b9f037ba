"""Translates sentences."""

from collections.abc import Sequence
from typing import Any

from nas.data.rows import Column
from nas.tasks.answers import AnswerTask, References
from nas.tasks.base import Scores

FEW_WORDS = 10


class Translation(AnswerTask):
    """Scores translations by BLEU (Papineni et al. 2002) and chrF (Popović 2015), from 0 to 100, with sacrebleu.

    The references are all translations of the sentence in the split; `bleu:10` is over sentences of at most ten words.
    """

    columns = (Column("source", "text"), Column("target", "text"))
    source, target = "source", "target"

    def judged(
        self, told: Sequence[str], references: References, sources: Sequence[str]
    ) -> tuple[dict[str, float], Scores]:
        short = [i for i, source in enumerate(sources) if len(source.split()) <= FEW_WORDS]
        found = {"bleu": _score("BLEU", told, references), "chrf": _score("CHRF", told, references)}
        if short:
            found[f"bleu:{FEW_WORDS}"] = _score("BLEU", [told[i] for i in short], [references[i] for i in short])
        return found, {}

    def simple(self, sources: Sequence[str]) -> dict[str, list[str]]:
        """Returns the sentences themselves: names and numbers stay right."""
        return {"copy": list(sources)}

    def describe(self) -> dict[str, Any]:
        """Adds the signatures of sacrebleu, which say how the scores are computed."""
        return super().describe() | {"signatures": {name: _signature(name) for name in ("BLEU", "CHRF")}}


def _score(name: str, told: Sequence[str], references: References) -> float:
    import sacrebleu

    # Sentences have different numbers of references; None fills the gaps.
    columns = [[row[i] if i < len(row) else None for row in references] for i in range(max(map(len, references)))]
    score: float = getattr(sacrebleu, name)().corpus_score(list(told), columns).score
    return score


def _signature(name: str) -> str:
    import sacrebleu

    metric = getattr(sacrebleu, name)()
    metric.corpus_score(["a", "b"], [["a", "b"], ["a", None]])
    return str(metric.get_signature())
