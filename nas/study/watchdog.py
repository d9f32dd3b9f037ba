"""Cuts the connection to a server that hangs, so that a wait without end becomes an error that can be retried.

A server that is stopped (SIGSTOP), or whose network goes silent, answers neither with data nor with an error, and its
own timeouts stand still with it.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import sqlalchemy as sql


class Watchdog:
    """Watches one block of code a thread at a time: after `seconds`, the connections attached in it are shut down."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._here = threading.local()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watches the block. The statement that waits in it then fails as with a lost connection."""
        watch = self._here.watch = _Watch()
        timer = threading.Timer(self.seconds, watch.cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            self._here.watch = None
            timer.cancel()
            watch.end()

    def attach(self, connection: Any) -> None:
        """Adds a connection of psycopg to the block that this thread is in; outside of any it changes nothing."""
        watch: _Watch | None = getattr(self._here, "watch", None)
        if watch is not None and not connection.closed:
            watch.attach(connection.pgconn.socket)


def guard(engine: sql.Engine, seconds: float) -> None:
    """Cuts the connection of each statement of the engine that has no answer after `seconds`.

    It serves an engine whose blocks are another library's.
    """

    @sql.event.listens_for(engine, "before_cursor_execute")
    def _begun(connection: sql.Connection, cursor: Any, _: Any, __: Any, context: Any, ___: Any) -> None:
        watch = _Watch()
        watch.attach(cursor.connection.pgconn.socket)
        timer = threading.Timer(seconds, watch.cut)
        timer.daemon = True
        timer.start()
        context.nas_watch = (watch, timer)

    def _ended(context: Any) -> None:
        if found := getattr(context, "nas_watch", None):
            watch, timer = found
            timer.cancel()
            watch.end()

    @sql.event.listens_for(engine, "after_cursor_execute")
    def _done(connection: sql.Connection, cursor: Any, _: Any, __: Any, context: Any, ___: Any) -> None:
        _ended(context)

    @sql.event.listens_for(engine, "handle_error")
    def _failed(context: Any) -> None:
        _ended(context.execution_context)


class _Watch:
    """Holds duplicates of the sockets of one block: a number of the original may belong to another file by then."""

    def __init__(self) -> None:
        self._lock, self._sockets = threading.Lock(), list[socket.socket]()
        self._over = False

    def attach(self, descriptor: int) -> None:
        with self._lock:
            self._sockets.append(socket.socket(fileno=os.dup(descriptor)))
        if self._over:
            self.cut()

    def cut(self) -> None:
        with self._lock:
            self._over = True
            for each in self._sockets:
                with suppress(OSError):  # the other side was faster
                    each.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        with self._lock:
            for each in self._sockets:
                each.close()
            self._sockets.clear()
