"""One small task of every kind, with an architecture of each family that can learn it."""

import json
import random
from pathlib import Path

import pytest

from nas.architecture import Architecture
from nas.settings.task_settings import TASK_KINDS, AssociativeRecall, ListOps, SelectiveCopy, TableTask, TaskSettings
from nas.settings.task_settings import TextTask as TextSettings

BLOCK = {"attention": {"kind": "softmax", "heads": 2}, "feed_forward": {"kind": "swiglu", "ratio": 1}}
LSTM = {"attention": {"kind": "lstm"}, "position": "none", "norm": "rms", "feed_forward": {"kind": "none"}}
CROSS = {"cross": {"kind": "softmax", "heads": 2}}
ARCHITECTURES = [
    Architecture.model_validate({"hidden": 16, **told})
    for told in (
        {"blocks": [BLOCK]},
        {"family": "encoder", "blocks": [BLOCK]},
        {"family": "encoder_decoder", "encoder_blocks": [BLOCK], "blocks": [BLOCK | CROSS]},
        {"family": "recurrent", "blocks": [LSTM]},
        {"family": "recurrent", "encoder_blocks": [LSTM], "blocks": [LSTM | CROSS]},
    )
]
WORDS = [f"w{number}" for number in range(30)]


def settings_of(kind: str, folder: Path) -> TaskSettings:
    """Settings of a task of that kind; what it reads is written into the folder."""
    match kind:
        case "associative_recall":
            return AssociativeRecall(kind=kind, context=16, vocabulary=32, pairs=3)
        case "selective_copy":
            return SelectiveCopy(kind=kind, context=16, copied=3)
        case "list_ops":
            return ListOps(kind=kind, shortest=3, longest=12)
    if not TASK_KINDS[kind].rows:
        path = folder / "text.txt"
        path.write_text("".join("abcdefghijklmnop"[i * i % 16] for i in range(2000)))
        return TextSettings(kind=kind, corpus=str(path), context=8)
    path = folder / f"{kind}.jsonl"
    path.write_text("\n".join(json.dumps(_row(kind, number)) for number in range(60)))
    return TableTask(kind=kind, corpus=str(path), context=24, subwords=300)


def _row(kind: str, number: int) -> dict[str, object]:
    """A row of a length of its own, so that examples count differently."""
    generator = random.Random(number)
    words = generator.choices(WORDS, k=2 + number % 9)
    text, answer = " ".join(words), " ".join(words[: 1 + number % 4])
    match kind:
        case "sentiment":
            return {"text": text, "label": ("good", "bad")[number % 2]}
        case "question_answering":
            return {"context": text, "question": f"who {words[0]}?", "answer": words[-1]}
        case "translation":
            return {"source": text, "target": answer}
        case "summarisation":
            return {"document": text, "summary": answer}
    raise AssertionError(f"no rows for a task of the kind {kind}")


def learners(kind: str) -> list[Architecture]:
    """The architectures that can learn a task of that kind."""
    task = TASK_KINDS[kind]
    return [a for a in ARCHITECTURES if a.family in task.families and bool(a.encoder_blocks) == task.has_source]


EVERY_TASK = pytest.mark.parametrize("kind", TASK_KINDS)
