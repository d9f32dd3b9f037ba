"""Chooses the body that runs the trials of a launch: the built-in training, or a function of the user's."""

import importlib
import pkgutil
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any

from pydantic import ValidationError

from nas import body as public
from nas.errors import Conflict, UsageError
from nas.settings.own_training import TrialSettings
from nas.settings.study_file import StudyFile
from nas.space.parameter_settings import ParameterSettings


@dataclass(frozen=True)
class OwnBody:
    """Holds a body: the function itself, or its name and the folder where its module is looked for first."""

    name: str
    given: public.BodyFunction | None = None
    beside: str = ""

    def function(self) -> public.BodyFunction:
        """Returns the function, imported where it is given by name.

        Raises UsageError when there is none of that name.
        """
        if self.given:
            return self.given
        if self.beside and self.beside not in sys.path:
            sys.path.insert(0, self.beside)
        module, _, name = self.name.partition(":")
        found: Any = self._module(module)
        path = name.split(".")
        for i, part in enumerate(path):
            if not hasattr(found, part):
                text = f"the body '{self.name}' cannot be found: '{':'.join([module, *path[:i]])}' has no '{part}'"
                near = _near(part, [key for key, value in vars(found).items() if callable(value)])
                raise _no_body(text, near and f"{module}:{'.'.join([*path[:i], near, *path[i + 1 :]])}")
            found = getattr(found, part)
        if not callable(found):
            raise _no_body(f"the body '{self.name}' is not a function")
        function: public.BodyFunction = found
        return function

    def _module(self, module: str) -> Any:
        """Imports the module. Raises UsageError: with a near name where there is none, or with what its import
        raised.
        """
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            missing = error.name or ""
            if module != missing and not module.startswith(f"{missing}."):  # the module lacks another one
                raise self._fails(module, error) from error
            parent = missing.rpartition(".")[0]
            folders = getattr(sys.modules[parent], "__path__", []) if parent in sys.modules else [self.beside or "."]
            near = _near(missing, [f"{parent}.{each.name}".lstrip(".") for each in pkgutil.iter_modules(folders)])
            rest = self.name.removeprefix(missing)
            raise _no_body(f"the body '{self.name}' cannot be found: {error}", near and near + rest) from error
        except (Exception, SystemExit) as error:  # the module is the user's, and may raise anything
            raise self._fails(module, error) from error

    def _fails(self, module: str, error: BaseException) -> UsageError:
        """Returns the error for a module whose own code fails."""
        last = "".join(traceback.format_exception_only(error)).strip()
        text = f"the body '{self.name}' cannot be imported: importing '{module}' fails"
        return UsageError(text, code="no-body", where="trial.body", detail=last, help=f"python -c 'import {module}'")


def _near(name: str, valid: Sequence[str]) -> str:
    """Returns the valid name that is nearest to a misspelt one; empty where none is near."""
    return next(iter(get_close_matches(name, valid, n=1, cutoff=0.6)), "")


def _no_body(text: str, near: str = "") -> UsageError:
    """Returns the error for a body that is not there, with the one that may be meant."""
    help = "name it module:function; modules beside the study file are found, and all that are installed"
    return UsageError(
        text, code="no-body", where="trial.body", help=f"did you mean '{near}'?\n{help}" if near else help
    )


def chosen(file: StudyFile, body: "public.BodyFunction | str | None") -> tuple[StudyFile, OwnBody | None]:
    """Returns the body of a launch, and the file with its name. `body` comes before that of the file; None is the
    built-in training.

    Raises Conflict where the file is a stored one, since a stored study never runs code. Raises UsageError where a body
    is missing or cannot be imported.
    """
    if callable(body):
        own = OwnBody(_name_of(body), body)
    elif body is not None:
        own = OwnBody(_named(body))
    elif file.trial and file.trial.beside is None:
        raise Conflict(
            f"study '{file.name}' has a body of its own, '{file.trial.body}', and a stored study never runs code",
            code="body-missing",
            where="trial.body",
            help="nas search FILE   continues with the study file that names it; in Python, give body=",
        )
    elif file.trial:
        own = OwnBody(file.trial.body, beside=str(file.trial.beside))
    else:
        _refuse_without(file)
        return file, None
    own.function()
    if file.targets:
        text = "a body of your own measures by itself, and has no targets"
        raise UsageError(
            text, code="targets", where="targets", help="leave them out, and declare [metrics] of your own"
        )
    if file.resources.processes_per_trial:
        text = "resources.processes_per_trial is for the built-in training: a body starts processes of its own"
        raise UsageError(text, code="processes", where="resources.processes_per_trial", help="leave it out")
    if file.trial is None or file.trial.body != own.name:
        file = file.model_copy(update={"trial": TrialSettings(body=own.name)})
    return file, own


def same_function(stored: str | None, now: str | None) -> bool:
    """Tells whether two names may mean one body: a function keeps its name when its module moves, or runs as a
    script.
    """
    return bool(stored and now) and str(stored).partition(":")[2] == str(now).partition(":")[2]


def _named(name: str) -> str:
    try:
        return TrialSettings(body=name).body
    except ValidationError:
        raise UsageError(f"expected module:function, got '{name:.80}'", code="no-body", where="body") from None


def _name_of(body: Callable[..., Any]) -> str:
    named = body.func if isinstance(body, partial) else body
    if not hasattr(named, "__qualname__"):
        named = type(named)
    return f"{named.__module__}:{named.__qualname__}"


def _refuse_without(file: StudyFile) -> None:
    """Raises UsageError for what the built-in training cannot do."""
    help = 'name it, [trial] body = "module:function", or give body= in Python'
    if isinstance(file.space, ParameterSettings):
        text = "a space of parameters needs a body of your own"
        raise UsageError(text, code="no-body", where="space.parameters", help=help)
    for wanted in (wanted for wanted in file.judged() if wanted.metric in file.metrics):
        text = f"'{wanted.metric}' is a metric of your own, which the built-in training does not measure"
        raise UsageError(text, code="no-body", where=f"metrics.{wanted.metric}", help=help)
