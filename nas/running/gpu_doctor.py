"""Runs every check of nas.running.gpu_checks, each in a process of its own and for a bounded time."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any, Literal

from nas.errors import UsageError
from nas.running.gpu_check import Check
from nas.running.gpu_checks import CHECKS

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class GpuFinding:
    """Tells how one check ended."""

    name: str
    level: Level
    text: str
    fix: str
    seconds: float
    figures: dict[str, Any] = field(default_factory=dict)


def machine() -> dict[str, Any]:
    """Describes the machine: GPU, driver, versions. Raises UsageError where torch sees no GPU."""
    import torch

    from nas.measure import environment

    if not torch.cuda.is_available():
        help = (
            "nas doctor   checks what a search on the CPU needs\nwith a GPU: see nvidia-smi, and install torch for CUDA"
        )
        text = f"torch {torch.__version__} sees no GPU, so none of {len(CHECKS)} checks can run"
        raise UsageError(text, code="no-gpu", where="--gpu", help=help)
    major, minor = torch.cuda.get_device_capability()
    return {**environment(), "cuda": str(torch.version.cuda), "capability": f"{major}.{minor}"}


def examine_gpu(device: str = "cuda", checks: Sequence[Check] = CHECKS) -> Iterator[GpuFinding]:
    """Yields each outcome as soon as it is known.

    A check that fails, crashes or hangs is reported, and the others still run.
    """
    for check in checks:
        started = time.monotonic()
        outcome = _in_own_process(check, device)
        yield GpuFinding(check.name, seconds=round(time.monotonic() - started, 1), **outcome)


def _in_own_process(check: Check, device: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "nas.running.gpu_checks", check.name, device]
    # No pipes, which a helper left behind would keep open; a session of its own, to end its helpers with it.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=out, stderr=said, start_new_session=True)
        try:
            process.wait(check.seconds)
        except subprocess.TimeoutExpired:
            return _failed(f"did not end within {check.seconds:g} s")
        finally:
            with suppress(ProcessLookupError):  # it has ended, and all of its helpers too
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        answer, errors = _lines(out), _lines(said)
    try:
        outcome: dict[str, Any] = json.loads(answer[-1])
    except (IndexError, ValueError):
        last = errors[-1][:300] if errors else "it printed nothing"
        return _failed(f"its process ended with {process.returncode}: {last}")
    return outcome


def _lines(file: IO[bytes]) -> list[str]:
    file.seek(0)
    return file.read().decode(errors="replace").strip().splitlines()


def _failed(text: str) -> dict[str, Any]:
    return {"level": "fail", "text": text, "fix": "", "figures": {}}
