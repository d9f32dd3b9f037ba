"""A study file to start from."""

import re
from pathlib import Path

from nas.errors import Conflict
from nas.files import write_text

STARTER = """\
# A study: what is searched, on which text, for which goals. `nas check` tells its size and about how long it takes.
name = "NAME"
family = "decoder"

[task]
kind = "language_modelling"
corpus = "python-docs"            # ships with CPython; or "tinyshakespeare", or the path of a text
context = 64                      # tokens in sight

[space]
depth = { low = 1, high = 4 }     # blocks
hidden = [32, 48, 64, 96]
mixed = false                     # true: each block chooses its own attention

[[space.attention]]               # a table an entry; a list is a choice
kind = "softmax"
heads = [1, 2, 4]
kv_heads = [1, "half", "all"]     # multi-query, grouped-query, multi-head

[[space.attention]]
kind = "window"                   # or another of the 14 kinds
heads = [1, 2, 4]
window = [8, 16, 32]

[train]
steps = 200
batch = 16
rungs = [0.25, 0.5, 1.0]          # shares of the steps at which trials are compared and saved

[[objectives]]                    # one to four
metric = "val_loss"               # nats per token

[[objectives]]
metric = "decode_ms_per_token"    # measured on this machine

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


def write_starter(path: Path) -> None:
    """Write it, named after the file. Raises Conflict when the file exists, which stays as it is."""
    if path.exists():
        raise Conflict(f"'{path}' exists", code="file-exists", help="name another: nas init other.toml")
    write_text(path, STARTER.replace("NAME", _name(path)))


def _name(path: Path) -> str:
    """The file's name as the study's, in the characters that a study may have."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", path.stem).lstrip("_.-")[:64] or "study"
