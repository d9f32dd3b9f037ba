"""Summarises an abstract in a sentence."""

import random
import re
from collections.abc import Sequence
from statistics import fmean

from nas.data.rows import Column
from nas.models import Head
from nas.tasks.answers import AnswerTask, References
from nas.tasks.base import Scores

ROUGE = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9])")


class Words:
    """Splits text into the words that rouge-score counts: letters and digits in lower case, of every script.

    rouge-score's own tokenizer knows a to z alone.
    """

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"[^\W_]+", text.lower())


class Summarisation(AnswerTask):
    """Scores summaries by ROUGE-1, -2 and -L (Lin 2004), from 0 to 100.

    They are the F1 of overlapping words, pairs of words and common subsequences, by rouge-score without stemming; of
    several summaries the nearest counts. The model may copy words of the abstract. An abstract that is too long loses
    its end.
    """

    columns = (Column("document", "text"), Column("summary", "texts"))
    source, target = "document", "summary"
    cuts_sources = True
    head = Head("copy")

    def judged(
        self, told: Sequence[str], references: References, sources: Sequence[str]
    ) -> tuple[dict[str, float], Scores]:
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer(list(ROUGE.values()), tokenizer=Words())
        best: dict[str, list[float]] = {name: [] for name in ROUGE}
        for text, right in zip(told, references, strict=True):
            found = [scorer.score(reference, text) for reference in right]
            for name, kind in ROUGE.items():
                best[name].append(100 * max(score[kind].fmeasure for score in found))
        return {name: fmean(scores) for name, scores in best.items()}, best

    def simple(self, sources: Sequence[str]) -> dict[str, list[str]]:
        generator = random.Random(0)
        sentences = [SENTENCE_END.split(source) for source in sources]
        return {
            "first sentence": [first for first, *_ in sentences],
            "any sentence": [generator.choice(several) for several in sentences],
        }
