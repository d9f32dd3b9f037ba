"""Databases that fail their driver: one kills it at any of its transactions, one refuses them, as a full disk does."""

from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sql

from nas.errors import OutOfReach
from nas.study.transactions import Database

T = TypeVar("T")


class Killed(BaseException):
    """Stands for SIGKILL: no handler of ours catches it."""


class MortalDatabase(Database):
    """Kills its driver at the n-th write from now, before or after that is done; half of one is never seen."""

    left: int | None = None
    after = False

    def write(self, body: Callable[[sql.Connection], T]) -> T:
        if self.left is None:
            return super().write(body)
        self.left -= 1
        if self.left:
            return super().write(body)
        self.left = None
        if self.after:
            super().write(body)
        raise Killed


class FullDatabase(Database):
    """Takes so many writes, and refuses every other."""

    left = 0

    def write(self, body: Callable[[sql.Connection], T]) -> T:
        self.left -= 1
        if self.left < 0:
            raise OutOfReach("the study's database does not answer: database or disk is full")
        return super().write(body)
