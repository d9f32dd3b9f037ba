"""Packs what a worker needs from its driver: the factory of the body, and the places where the driver finds modules."""

import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass

from nas.errors import UsageError
from nas.running.events import BodyFactory


@dataclass(frozen=True)
class Shipped:
    """Holds a factory as bytes, which can be opened only once its modules are found."""

    factory: bytes
    paths: tuple[str, ...]

    def opened(self) -> BodyFactory:
        """Returns the factory, in a worker that from now on finds modules as the driver does."""
        sys.path += [path for path in self.paths if path not in sys.path]
        factory: BodyFactory = pickle.loads(self.factory)
        return factory


def packed(factory: BodyFactory, dumps: Callable[[BodyFactory], bytes]) -> Shipped:
    """Pickles the factory, also one from a script or a notebook. Raises UsageError."""
    try:
        return Shipped(dumps(factory), tuple(sys.path))
    except (TypeError, ValueError, AttributeError, pickle.PicklingError) as error:
        raise UsageError(
            f"the body cannot be sent to other processes: {error}",
            code="no-body",
            help='name it, [trial] body = "module:function", or run with executor="serial"',
        ) from error
