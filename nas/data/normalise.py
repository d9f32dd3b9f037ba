"""Turns published files into one table each: UTF-8, one example a line, with its split.

Each function takes the downloads and returns the content of the normalised file. Where a publisher gives no splits,
they follow from a hash of what identifies an example, so that nothing leaks from one split into another.
"""

import gzip
import hashlib
import html
import io
import json
import re
import tarfile
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

BABI_TASKS = (1, 2, 3, 4, 5, 11, 12, 13, 14, 16)
"""The tasks whose answer is a word of the story."""
BABI_PARTS = ("train", "valid", "test")
BABI_FILES = tuple((task, part) for task in BABI_TASKS for part in BABI_PARTS)
TWEETS = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
RATINGS = "tweets_GroundTruth.txt"


def unchanged(files: Sequence[Path]) -> bytes:
    return files[0].read_bytes()


def split_of(key: str, shares: int) -> str:
    """Returns the split of a key by its hash: one of `shares` parts is the test split, one the validation split."""
    part = int.from_bytes(hashlib.sha1(key.encode(), usedforsecurity=False).digest(), "big") % shares
    return {0: "test", 1: "valid"}.get(part, "train")


def tatoeba(files: Sequence[Path]) -> bytes:
    """Writes `split`, `eng`, `fra`, separated by tabs. A twentieth of the English sentences is the test split."""
    with zipfile.ZipFile(files[0]) as archive:
        lines = archive.read("fra.txt").decode("utf-8").splitlines()
    pairs = dict.fromkeys(tuple(_plain(part) for part in line.split("\t")[:2]) for line in lines)
    rows = [f"{split_of(pair[0], 20)}\t{pair[0]}\t{pair[1]}" for pair in pairs]
    return ("\n".join(["split\teng\tfra", *rows]) + "\n").encode()


def babi(files: Sequence[Path]) -> bytes:
    """Writes questions whose answer stands in the last of their supporting facts. `answer_start` counts characters."""
    rows: list[Mapping[str, Any]] = []
    for (task, part), path in zip(BABI_FILES, files, strict=True):
        rows += [{"task": task, "split": part, **question} for question in _questions(path)]
    return _json_lines(rows)


def tweets(files: Sequence[Path]) -> bytes:
    """Writes tweets with `score`, the mean of 20 raters from −4 to 4, and `label`, whether it is above 0.

    A tenth is the test split.
    """
    with tarfile.open(files[0]) as package:
        inner = package.extractfile(TWEETS)
        assert inner is not None
        with tarfile.open(fileobj=io.BytesIO(inner.read())) as archive:
            ratings = archive.extractfile(next(m for m in archive.getmembers() if m.name.endswith(RATINGS)))
            assert ratings is not None
            lines = ratings.read().decode("utf-8").splitlines()
    rows = []
    for line in lines:
        number, mean, text = line.split("\t", 2)
        text, score = html.unescape(text).strip(), round(float(mean), 4)
        rows.append({"id": number, "text": text, "score": score, "label": int(score > 0), "split": split_of(text, 10)})
    return _json_lines(rows)


def scitldr(files: Sequence[Path]) -> bytes:
    """Writes abstracts, each with all of its summaries."""
    rows = []
    for part, path in zip(("train", "valid", "test"), files, strict=True):
        for line in path.read_text(encoding="utf-8").splitlines():
            paper = json.loads(line)
            document = " ".join(sentence.strip() for sentence in paper["source"])
            rows.append({"id": paper["paper_id"], "split": part, "document": document})
            rows[-1] |= {"title": paper.get("title", ""), "summary": paper["target"]}
    return _json_lines(rows)


def pack(content: bytes) -> bytes:
    """Packs bytes so that equal contents give equal archives at any time."""
    return gzip.compress(content, 9, mtime=0)


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _questions(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the questions of a file of stories.

    A story is a run of numbered lines that starts at 1. The fields of a question are separated by tabs: the question,
    its answer, and the lines that support it.
    """
    story: dict[int, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        number, text = line.split(" ", 1)
        if int(number) == 1:
            story = {}
        if "\t" not in text:
            story[int(number)] = text.strip()
            continue
        question, answer, support = (part.strip() for part in text.split("\t"))
        fact = int(support.split()[-1])
        before = sum(len(told) + 1 for n, told in story.items() if n < fact)
        word = re.search(rf"\b{re.escape(answer)}\b", story[fact])
        assert word, f"{path.name}: '{answer}' is not in '{story[fact]}'"
        yield {
            "context": " ".join(story.values()),
            "question": question,
            "answer": answer,
            "answer_start": before + word.start(),
        }


def _json_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows).encode()
