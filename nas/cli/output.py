"""Where things are printed: data on standard output, people on standard error."""

import json
import sys
from typing import Any

from rich.console import Console

FORMAT = 1


def people() -> Console:
    """The console on standard error. Looked up anew, so that tests and redirections are seen. What users named is
    printed as it is, brackets and all."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def emit(kind: str, **facts: Any) -> None:
    """One line of `--json`: {"v": 1, "type": kind, ...}. NaN never reaches it."""
    sys.stdout.write(json.dumps({"v": FORMAT, "type": kind, **facts}, allow_nan=False) + "\n")
    sys.stdout.flush()
