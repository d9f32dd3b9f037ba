"""Writes study files to start from, one for each task."""

import re
from pathlib import Path

from nas.errors import UsageError, nearest
from nas.files import create
from nas.settings.task_settings import TASK_KINDS

TEXT_TASKS = ("language_modelling", "masked_language_modelling", "copy_spans", "reverse_spans")

HEAD = """\
# A study: what is searched, on which task, for which goals. `nas check` tells its size and about how long it takes.
name = "NAME"
family = "FAMILY"

[task]
kind = "KIND"
TASK
"""

SPACE = """
[space]
depth = { low = 1, high = 4 }     # blocks
hidden = [32, 48, 64, 96]
mixed = false                     # true: each block chooses its own attention

[[space.attention]]               # a table an entry; a list is a choice
kind = "softmax"
heads = [1, 2, 4]
kv_heads = [1, "half", "all"]     # multi-query, grouped-query, multi-head

[[space.attention]]
kind = "window"                   # or another kind: docs/attention.md
heads = [1, 2, 4]
window = [8, 16, 32]
"""

SPACE_WITH_SOURCE = """
[space]
depth = [1, 2]                    # blocks that write
encoder_depth = [1, 2]            # blocks that read the source
hidden = [64, 96, 128]

[[space.attention]]               # a table an entry; a list is a choice
kind = "softmax"
heads = [2, 4]

[[space.cross]]                   # attention to the source
kind = "softmax"                  # softmax, cosine or additive
heads = [2, 4]
"""

REST = """
[train]
steps = STEPS
batch = BATCH
rungs = [0.25, 0.5, 1.0]          # shares of the steps at which trials are compared and saved

[[objectives]]                    # one to four
metric = "METRIC"

[[objectives]]
metric = "TIME"

[[constraints]]                   # trials over a limit are not trained
metric = "weights_mib"
max = 16

[search]
trials = 24                       # trained trials; those over a limit do not count
seed = 0

[resources]
device = "auto"                   # cpu, cuda or auto
cpus_per_trial = 1

[[baselines]]                     # tried first, and marked in the report
hidden = 64
depth = 2
attention = { kind = "softmax", heads = 4 }
"""

BASELINE_WITH_SOURCE = """\
encoder_depth = 2
cross = { kind = "softmax", heads = 4 }
"""

TEXT = 'corpus = "python-docs"            # ships with CPython; or "tinyshakespeare", or the path of a text'
CONTEXT = "context = 64                      # tokens that the model sees"
TABLE = """\
corpus = "CORPUS"
# or a file of your own: corpus = "rows.csv" (CSV, TSV, JSON lines or Parquet; a path is relative to this file)
# columns = { COLUMNS }   # the task's name of a column = the file's
context = 64                      # subwords in sight
subwords = 2000"""
COLUMNS = {
    "sentiment": 'text = "tweet", label = "feels"',
    "question_answering": 'context = "story", question = "asked", answer = "said"',
    "translation": 'source = "english", target = "french"',
    "summarisation": 'document = "abstract", summary = "tldr"',
}
GENERATED = {
    "associative_recall": "context = 64\nvocabulary = 256                  # half keys, half values\npairs = 8",
    "selective_copy": "context = 64\nvocabulary = 16\ncopied = 8                        # tokens among the blanks",
    "list_ops": "shortest = 10                     # tokens of an expression\nlongest = 100",
}


def starter(kind: str = "language_modelling", name: str = "study") -> str:
    """Returns a study file for that task, with a comment on every part. Raises UsageError for an unknown task."""
    if kind not in TASK_KINDS:
        raise UsageError(f"no task '{kind}'", code="unknown-task", where="task", help=nearest(kind, TASK_KINDS))
    task = TASK_KINDS[kind]
    family = "encoder_decoder" if task.has_source else task.families[0]
    table = TABLE.replace("CORPUS", task.corpus).replace("COLUMNS", COLUMNS.get(kind, ""))
    told = table if task.rows else GENERATED.get(kind, f"{TEXT}\n{CONTEXT}")
    timed = "prefill_ms         " if family == "encoder" else "decode_ms_per_token"
    values = {
        "FAMILY": family,
        "KIND": kind,
        "TASK": told,
        "STEPS": "200" if kind in TEXT_TASKS else "400",
        "BATCH": "16" if kind in TEXT_TASKS else "32",
        'METRIC"': 'val_loss"               # nats per token' if task.writes else 'val_accuracy"',
        'TIME"': f'{timed.rstrip()}"' + " " * (len(timed) - len(timed.rstrip())) + "    # measured on this machine",
        "NAME": name,
    }
    text = HEAD + (SPACE_WITH_SOURCE if task.has_source else SPACE) + REST
    text += BASELINE_WITH_SOURCE if task.has_source else ""
    for word, value in values.items():
        text = text.replace(word, value)
    return text


def write_starter(path: Path | str, kind: str = "language_modelling") -> None:
    """Writes a starter file; the study gets the file's name.

    Raises Conflict when the file exists, and leaves it unchanged.
    """
    path = Path(path)
    text = starter(kind, _name(path))
    create(path, lambda beside: beside.write_text(text, encoding="utf-8"), help="name another: nas init other.toml")


def _name(path: Path) -> str:
    """Returns the file's name as a study's name, in the characters that are allowed."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", path.stem).lstrip("_.-")[:64] or "study"
