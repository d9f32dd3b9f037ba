"""Starts a Ray of this process's own and its workers, in a thread, while the search opens its study."""

import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from nas.errors import Conflict, OutOfReach
from nas.running.helper_processes import HANGING_THREAD, HelperProcesses
from nas.running.placement import Placement
from nas.running.ray_connection import (
    END_SECONDS,
    OTHER_CLUSTERS,
    SECRETS,
    first_line,
    leave_ray,
    ray,
    refuse_running,
    surroundings,
)
from nas.surroundings import shielded, without_variables

SYSTEM = {
    "gcs_rpc_server_reconnect_timeout_s": 100_000,  # otherwise Ray ends this program a minute after its process died
    "preload_python_modules": ["nas.running.trial"],  # what every trial needs, also one with a body of the user's own
}
START_SECONDS = 60.0
"""A start that is to be given up is awaited for so long: it cannot be interrupted."""


class OwnRay:
    """Is a Ray on this machine, whatever RAY_ADDRESS says. `begin` starts one, and `close` ends it.

    The thread that starts Ray's processes lives as long as they do: Linux kills them when it ends.
    """

    def __init__(self, placement: Placement, trials: int) -> None:
        self._placement = placement
        self._ahead = min(trials, placement.slots) >= int(placement.cpus)
        """Workers start before their trials are known: Ray starts one for each CPU."""
        self._helpers = HelperProcesses(Path(ray.__file__).parent)
        self._held, self._started, self._ended = ExitStack(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep, name=HANGING_THREAD, daemon=True)
        self._error: Exception | None = None

    @classmethod
    def begin(cls, placement: Placement, trials: int) -> Self:
        """Begins to start Ray, and its workers where each CPU gets one of so many trials."""
        own = cls(placement, trials)
        try:
            refuse_running()
        except Conflict as error:
            own._error = error
            own._started.set()
            return own
        own._held.enter_context(surroundings(placement.slots))
        own._held.callback(own._end)
        own._thread.start()
        return own

    def processes(self) -> HelperProcesses:
        """Waits until Ray has started, and returns its processes.

        Raises OutOfReach when Ray does not start, and Conflict when this program uses Ray already.
        """
        self._started.wait()
        if self._error is not None:
            raise self._error
        return self._helpers

    def close(self) -> None:
        """Ends Ray, and restores what it changes in this process. A second call does nothing."""
        self._held.close()

    def _end(self) -> None:
        self._started.wait(START_SECONDS)
        leave_ray(self._helpers)
        self._ended.set()
        self._thread.join(END_SECONDS)

    def _keep(self) -> None:
        try:
            self._start()
        except Exception as error:  # noqa: BLE001  Ray raises every class here, Exception itself included
            self._error = OutOfReach(f"Ray does not start: {first_line(error)}", code="ray")
            self._error.__cause__ = error
        self._started.set()
        self._ended.wait()

    def _start(self) -> None:
        with shielded(), without_variables((*OTHER_CLUSTERS, *SECRETS)), self._helpers:
            ray.init(
                address="local",
                num_cpus=int(self._placement.cpus),
                num_gpus=int(self._placement.gpus),
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
                _system_config={**SYSTEM, "prestart_worker_first_driver": self._ahead},
            )
