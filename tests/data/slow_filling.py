"""An entry of the token cache that takes its time; apart, so that processes that make one load no torch."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nas.data import token_cache
from nas.data.token_cache import TokenWriter

KEY = {"text": "abc"}


def slowly(log: Path, seconds: float) -> None:
    def fill(writer: TokenWriter) -> Mapping[str, Any]:
        with log.open("a") as file:
            file.write("begun\n")
        writer.append("tokens", np.arange(5, dtype="<u2"))
        time.sleep(seconds)
        return {}

    assert token_cache.obtain(KEY, fill).arrays["tokens"].tolist() == list(range(5))
