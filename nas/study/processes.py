"""Identifies a process beyond its number, so that a driver that was killed is known to be dead at once.

A process number alone may be another machine's or another container's, and is used again. On Linux, the start of the
machine, the namespace of process numbers and the moment of the process's start make it unique. Elsewhere nothing is
known of others, and a dead driver is recognised by its heartbeat alone.
"""

import os
from pathlib import Path

PROC = Path("/proc")
DEAD = ("Z", "X")
"""The states of a process that has ended, and whose parent has not asked how."""


def identity(pid: int | None = None) -> str:
    """Returns what identifies this process, or that one on this machine; empty where that cannot be told."""
    pid = os.getpid() if pid is None else pid
    where, found = _machine(), _stat(pid)
    return f"{where}:{pid}:{found[1]}" if where and found else ""


def is_gone(stored: str) -> bool:
    """Tells whether the process of that identity has certainly ended; False where that is not known."""
    where, _, rest = stored.rpartition(":")[0].rpartition(":")
    pid, started = rest, stored.rpartition(":")[2]
    if not where or where != _machine() or not pid.isdecimal() or int(pid) > 2**31:
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's, which may be hidden from this one
        return False
    found = _stat(int(pid))
    return found is not None and (found[0] in DEAD or found[1] != started)


def _machine() -> str:
    """Returns what tells this start of this machine, and this namespace of process numbers, from all others."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = (PROC / "self/ns/pid").stat().st_ino
    except OSError:
        return ""
    return f"{boot}:{namespace}"


def _stat(pid: int) -> tuple[str, str] | None:
    """Returns state and start (in ticks since the machine's) of a process. Its name may hold any character."""
    try:
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], fields[19]
