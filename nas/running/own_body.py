"""Chooses the body that runs the trials of a launch: the built-in training, or a function of the user's."""

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
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
    """A body: the function itself, or its name and the folder where its module is looked for first."""

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
        try:
            found: Any = importlib.import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError) as error:
            text = f"the body '{self.name}' cannot be imported: {error}"
            help = "name it module:function; modules beside the study file are found, and all that are installed"
            raise UsageError(text, code="no-body", where="trial.body", help=help) from error
        if not callable(found):
            raise UsageError(f"the body '{self.name}' is not a function", code="no-body", where="trial.body")
        function: public.BodyFunction = found
        return function


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
    for wanted in (wanted for wanted in file.judged() if wanted.own):
        text = f"'{wanted.metric}' is a metric of your own, which the built-in training does not measure"
        raise UsageError(text, code="no-body", where=f"metrics.{wanted.metric}", help=help)
