"""Prepares this process for Ray, and has it leave Ray again.

`nas.running.ray_start` starts a Ray of this process's own; `nas.running.ray_cluster` joins one that others started.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nas.errors import Conflict
from nas.running.helper_processes import HANGING_THREAD, HelperProcesses, no_second_ray
from nas.surroundings import as_before, environment_variables, logger_level

SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
"""Ray reads these variables while it is imported and while it starts; its workers inherit them."""

# A driver outlives the loss of its cluster, to store what it knows and to say so: Ray would end it after a minute.
with environment_variables({**SETTINGS, "RAY_gcs_rpc_server_reconnect_timeout_s": "100000"}):
    import ray as ray  # for the other files that need it, after these settings

log = logging.getLogger("nas")

OTHER_CLUSTERS = ("RAY_ADDRESS", "RAY_NAMESPACE", "RAY_JOB_CONFIG_JSON_ENV_VAR", "RAY_RUNTIME_ENV_HOOK")
"""These environment variables tell of a cluster or a job in which this program itself may run."""
SECRETS = ("NAS_STORAGE", "PGPASSWORD", "PGPASSFILE", "PGSERVICE", "PGSERVICEFILE")
"""Workers need no database, so they get no way to it."""
DISCONNECT_SECONDS, END_SECONDS = 1.0, 10.0


@contextmanager
def surroundings(pending: int) -> Iterator[None]:
    """Prepares this process for Ray, and restores it. Ray Tune starts at most `pending` workers at once."""
    settings = {**SETTINGS, "TUNE_MAX_PENDING_TRIALS_PG": str(pending)}
    # Ray's warnings are about what is done here on purpose; its errors reach us as exceptions.
    with (
        no_second_ray(),
        as_before(),
        environment_variables(settings),
        logger_level("ray", logging.CRITICAL),
        unprinted(),
    ):
        yield


@contextmanager
def unprinted() -> Iterator[None]:
    """Sends to the log what Ray prints to standard output when a node or a worker dies.

    Ray does so even with `log_to_driver=False`, and has no setting against it. Standard output is for results.
    """
    printer = ray._private.worker
    former, printer.print_to_stdstream = printer.print_to_stdstream, _to_log
    try:
        yield
    finally:
        printer.print_to_stdstream = former


def _to_log(data: dict[str, Any], ignore_prefix: bool) -> None:
    for line in data["lines"]:
        log.debug("Ray: %s", line)


def refuse_running() -> None:
    """Raises Conflict when this program uses Ray already."""
    if ray.is_initialized():
        help = 'call ray.shutdown() first, or search with executor="serial"'
        raise Conflict("this program already runs its own Ray, and can have only one", code="ray-in-use", help=help)


def leave_ray(helpers: HelperProcesses) -> None:
    """Ends Ray within seconds, whatever its state. Trials are saved by now, so its processes need no time to end."""
    disconnect = threading.Thread(target=ray.shutdown, name=HANGING_THREAD, daemon=True)
    disconnect.start()
    disconnect.join(DISCONNECT_SECONDS)
    helpers.end(END_SECONDS)
    disconnect.join(END_SECONDS)
    if disconnect.is_alive():
        log.warning("Ray does not answer; its processes were ended")


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's text, or the name of its class where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
