"""Defines every error that `nas` raises on purpose, and the exit code with which it ends a command.

    NasError                  1   something failed; the base of all others
    ├─ UsageError             2   the command line or the study file says something impossible
    │  ├─ InvalidArchitecture     a combination of sizes that cannot be built
    │  ├─ InvalidStudyFile        an unknown key, a wrong value, a missing table
    │  └─ DataError               a corpus that is missing, empty, binary or too short
    ├─ NothingFeasible        3   the search finished, and no trial meets the constraints
    ├─ Conflict               4   what is stored says otherwise, or another process holds the study
    ├─ OutOfReach             5   the database or the cluster does not answer, or the disk refuses
    └─ TooManyFailures        6   too many trials failed

An error names the place (`where`), the value found (`detail`) and what to do (`help`); `str(error)` is the
first line alone, `render()` the whole message as a command prints it.
"""

from collections.abc import Iterable
from difflib import get_close_matches

from nas.printable import on_one_line, printable

LONGEST_NAME = 200
"""The most characters of a name that are compared with others: the time grows with the product of both lengths."""


class NasError(Exception):
    """The base of all errors: `code` is a short stable name in kebab case, `message` one line without a full stop."""

    exit_code = 1
    code = "failed"

    def __init__(
        self, message: str, *, code: str | None = None, where: str = "", detail: str = "", help: str = ""
    ) -> None:
        super().__init__(message)
        self.message, self.where, self.detail, self.help = message, where, detail, help
        self.code = code or type(self).code

    def render(self) -> str:
        """Returns the message as a command prints it: error[code], place, detail, help. Quoted text is escaped."""
        lines = [f"error[{self.code}]: {on_one_line(self.message)}"]
        if self.where:
            lines.append(f"  --> {on_one_line(self.where)}")
        lines += [f"      {line}" for line in printable(self.detail).splitlines()]
        if self.help:
            first, *rest = printable(self.help).splitlines()
            lines += [f"  help: {first}", *(f"        {line}" for line in rest)]
        return "\n".join(lines)


class UsageError(NasError):
    exit_code = 2
    code = "usage"


class InvalidArchitecture(UsageError):
    code = "invalid-architecture"


class InvalidStudyFile(UsageError):
    code = "invalid-study-file"


class DataError(UsageError):
    code = "data"


class NothingFeasible(NasError):
    exit_code = 3
    code = "nothing-feasible"


class Conflict(NasError):
    exit_code = 4
    code = "conflict"


class OutOfReach(NasError):
    exit_code = 5
    code = "out-of-reach"


class TooManyFailures(NasError):
    exit_code = 6
    code = "too-many-failures"


def nearest(name: str, valid: Iterable[str]) -> str:
    """Returns "did you mean 'x'? valid: a, b, c", or only the valid names when none is near."""
    valid = sorted(valid)
    compared = [other for other in valid if len(other) <= LONGEST_NAME] if len(name) <= LONGEST_NAME else []
    close = get_close_matches(name, compared, n=1, cutoff=0.5)
    listed = "one of " + ", ".join(valid)
    return f"did you mean '{close[0]}'? ({listed})" if close else listed
