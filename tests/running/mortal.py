"""A driver that is killed at any write to its database."""

from typing import Any

import optuna

WRITES = ("create_new_trial", "set_trial_state_values", "set_trial_user_attr", "set_trial_system_attr")


class Killed(BaseException):
    """Stands for SIGKILL: no handler of ours catches it."""


class MortalStorage(optuna.storages.InMemoryStorage):
    """Dies at the n-th write from now, before or after the write is done."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.after = None, False

    def _live(self, name: str, *arguments: Any, **options: Any) -> Any:
        write = getattr(super(), name)
        if self.left is None:
            return write(*arguments, **options)
        self.left -= 1
        if self.left:
            return write(*arguments, **options)
        self.left = None
        if self.after:
            write(*arguments, **options)
        raise Killed


for _name in WRITES:
    setattr(MortalStorage, _name, lambda self, *a, _name=_name, **o: self._live(_name, *a, **o))
