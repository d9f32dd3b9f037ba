"""Finds answers in a story, and compares two answers."""

import re
import string
from collections import Counter
from collections.abc import Iterable

ATOM = re.compile(r"\w+|[^\w\s]")
"""Matches a word, or a sign."""


def place_of(answer: str, story: str) -> int:
    """Finds where the answer first stands as whole words, or else where it first stands; −1 where it does not."""
    first = place = story.find(answer)
    while place >= 0:
        end = place + len(answer)
        if not _in_word(story[max(0, place - 1) : place]) and not _in_word(story[end : end + 1]):
            return place
        place = story.find(answer, place + 1)
    return first


class Candidates:
    """Finds answers in a story, as whole words, or as whole signs beside them."""

    def __init__(self, answers: Iterable[str]) -> None:
        self.texts = {answer.strip() for answer in answers}
        self.most = max((len(ATOM.findall(text)) for text in self.texts), default=0)
        self.found = dict[str, str]()

    def last_in(self, story: str) -> str:
        """Returns the answer that starts last (of several the longest), or "" where there is none."""
        if story not in self.found:
            self.found[story] = self._last_in(story)
        return self.found[story]

    def _last_in(self, story: str) -> str:
        atoms = [found.span() for found in ATOM.finditer(story)]
        for first in reversed(range(len(atoms))):
            start = atoms[first][0]
            if start and _in_word(story[start - 1]):
                continue
            for _, end in reversed(atoms[first : first + self.most]):
                if story[start:end] in self.texts and not _in_word(story[end : end + 1]):
                    return story[start:end]
        return ""


def normalised(text: str) -> list[str]:
    """Returns the words in lower case, without punctuation and articles, as SQuAD compares them (arXiv:1606.05250)."""
    plain = text.lower().translate(str.maketrans("", "", string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def f1(told: str, true: str) -> float:
    """Computes the F1 of the words of both."""
    ours, theirs = Counter(normalised(told)), Counter(normalised(true))
    common = (ours & theirs).total()
    return 2 * common / (ours.total() + theirs.total()) if common else float(ours == theirs)


def _in_word(character: str) -> bool:
    return character.isalnum() or character == "_"
