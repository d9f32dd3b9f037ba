"""Restores what a search changes in its own process: variables, signal handlers, levels of loggers, threads of BLAS."""

import faulthandler
import logging
import os
import random
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that ask a program to end."""


@contextmanager
def environment_variables(values: Mapping[str, str]) -> Iterator[None]:
    """Sets those that are not set, and unsets them again afterwards."""
    ours = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


@contextmanager
def without_variables(names: Sequence[str]) -> Iterator[None]:
    """Unsets these environment variables while the block runs."""
    former = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(former)


@contextmanager
def logger_level(name: str, level: int) -> Iterator[None]:
    """Gives a logger another level for a while, and restores the level and its handlers afterwards."""
    logger = logging.getLogger(name)
    before, handlers = logger.level, list(logger.handlers)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.handlers[:] = handlers


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Lets NumPy and SciPy use one thread for matrices. Libraries that are loaded later keep their own number.

    A driver's matrices are small, and its workers use the other cores: 100 simulated workers wait 8 % of their time for
    a driver with two threads, and 3 % for one with one.
    """
    with threadpool_limits(1, user_api="blas"):
        yield


@contextmanager
def as_before() -> Iterator[None]:
    """Restores what another library changes in the process: variables, signal handlers, random generators.

    Handlers are restored in the main thread only, since Python allows it nowhere else.
    """
    mine = threading.current_thread() is threading.main_thread()
    numbers = [number for number in signal.valid_signals() if mine and signal.getsignal(number) is not None]
    handlers = {number: signal.getsignal(number) for number in numbers}
    variables, drawn, told = set(os.environ), random.getstate(), faulthandler.is_enabled()
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if signal.getsignal(number) != handler:
                signal.signal(number, handler)
        for name in set(os.environ) - variables:
            del os.environ[name]
        random.setstate(drawn)
        if faulthandler.is_enabled() and not told:
            faulthandler.disable()


@contextmanager
def shielded() -> Iterator[None]:
    """Blocks the signals that stop a search in processes and threads that are started within.

    A signal that arrives for this thread meanwhile is delivered at the end of the block.
    """
    former = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
