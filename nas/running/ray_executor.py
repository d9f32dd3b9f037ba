"""Runs trials with Ray Tune: it schedules them, places them and keeps workers warm. It decides nothing and stores
nothing.

Ray Tune asks the coordinator in `suggest`, and reports to it in the scheduler's hooks. Ray Tune's own state is written
to a temporary folder and never restored: each launch is a new experiment over the same study. The reasons are:

- `Tuner` pickles searcher and scheduler, so both reduce to inert stubs; nothing of ours reaches Ray's files.
- An exception in a searcher's `on_trial_complete` is swallowed and repeated as an error, so results are taken in
  the scheduler's hooks; a result with `done` skips `on_trial_result` and arrives in `on_trial_complete`.
- Stock recovery loses and repeats trials (ray-project/ray#30838, #42221, #30223).
- Tune's loop runs in a thread. The caller's thread watches Ray's processes and the signals, so that a Ray that died or
  hangs ends the search within seconds. Ray itself waits for a minute and then ends the whole program.
"""

import logging
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.errors import Conflict, NasError, OutOfReach
from nas.running.events import BodyFactory, Interrupted, Job, Measured, Reached, Restarted, Waiting, waiting
from nas.running.helper_processes import HANGING_THREAD, HelperProcesses, no_second_ray
from nas.running.placement import Placement
from nas.running.shipping import Shipped, packed
from nas.running.stop_control import Level, StopControl
from nas.surroundings import as_before, environment_variables, logger_level, shielded, without_variables

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

SYSTEM = {
    "gcs_rpc_server_reconnect_timeout_s": 100_000,  # otherwise Ray ends this program a minute after its process died
    "prestart_worker_first_driver": False,  # trials have an environment of their own, so no such worker fits them
}

if TYPE_CHECKING:
    from nas.running.coordinator import Coordinator  # workers import this file, and need no sampler and no database

with environment_variables(SETTINGS):
    import ray
    from ray import tune
    from ray.tune.schedulers import FIFOScheduler, TrialScheduler
    from ray.tune.search import Searcher

log = logging.getLogger("nas")

ESSENTIAL = ("gcs_server", "raylet")
"""Ray can do nothing without these processes."""
OTHER_CLUSTERS = ("RAY_ADDRESS", "RAY_NAMESPACE", "RAY_JOB_CONFIG_JSON_ENV_VAR", "RAY_RUNTIME_ENV_HOOK")
"""These environment variables tell of a cluster or a job in which this program itself may run."""
WATCH_SECONDS, DISCONNECT_SECONDS, END_SECONDS = 0.2, 1.0, 10.0
SAVING_SECONDS, STARTING_SECONDS = 60.0, 5.0
RESUME = "nas resume   continues; running trials were put back, and keep their last checkpoint"


def run(coordinator: "Coordinator", factory: BodyFactory, control: StopControl, placement: Placement) -> None:
    """Runs until the coordinator has nothing more, or the control says stop. Starts a Ray of its own, and ends it.

    Raises OutOfReach when Ray does not start or dies, Conflict when this program uses Ray already.
    """
    if ray.is_initialized():
        help = 'call ray.shutdown() first, or search with executor="serial"'
        raise Conflict("this program already runs its own Ray, and can have only one", code="ray-in-use", help=help)
    settings = {**SETTINGS, "TUNE_MAX_PENDING_TRIALS_PG": str(placement.slots)}
    helpers = HelperProcesses(Path(ray.__file__).parent)
    # Ray's warnings are about what is done here on purpose; its errors reach us as exceptions.
    with (
        no_second_ray(),
        as_before(),
        environment_variables(settings),
        logger_level("ray", logging.CRITICAL),
        tempfile.TemporaryDirectory(prefix="nas-tune-", ignore_cleanup_errors=True) as folder,
    ):
        try:
            coordinator.observer(waiting("ray"))
            with helpers:
                _start_ray(placement)
            control.install_handlers()
            coordinator.observer(waiting("workers"))
            _fit(_Bridge(coordinator, control, placement.slots), factory, Path(folder), helpers)
        finally:
            _stop_ray(helpers)


def _start_ray(placement: Placement) -> None:
    try:
        with shielded(), without_variables(OTHER_CLUSTERS):
            ray.init(
                address="local",
                num_cpus=int(placement.cpus),
                num_gpus=int(placement.gpus),
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
                _system_config=SYSTEM,
            )
    except Exception as error:  # Ray raises every class here, Exception itself included
        raise OutOfReach(
            f"Ray does not start: {(str(error) or type(error).__name__).splitlines()[0]}", code="ray"
        ) from error


def _stop_ray(helpers: HelperProcesses) -> None:
    """Ends Ray within seconds, whatever its state. Trials are saved by now, so its processes need no time to end."""
    disconnect = threading.Thread(target=ray.shutdown, name=HANGING_THREAD, daemon=True)
    disconnect.start()
    disconnect.join(DISCONNECT_SECONDS)
    helpers.end(END_SECONDS)
    disconnect.join(END_SECONDS)
    if disconnect.is_alive():
        log.warning("Ray does not answer; its processes were ended")


def _fit(bridge: "_Bridge", factory: BodyFactory, folder: Path, helpers: HelperProcesses) -> None:
    """Runs Tune's loop to its end, or until Ray dies or a stop takes too long. Raises what our hooks raise."""
    ended: list[BaseException | None] = []

    def fit() -> None:
        try:
            _tuner(bridge, factory, folder).fit()
            ended.append(None)
        except BaseException as error:  # noqa: BLE001  raised again by the thread that waits
            ended.append(error)

    loop = threading.Thread(target=fit, name=HANGING_THREAD, daemon=True)
    loop.start()
    patience = _Patience(bridge)
    while loop.is_alive():
        loop.join(WATCH_SECONDS)
        if loop.is_alive() and (dead := helpers.first_dead(*ESSENTIAL)):
            bridge.close()
            raise bridge.error or OutOfReach(f"Ray's process '{dead}' has ended", code="ray", help=RESUME)
        if loop.is_alive() and patience.is_over():
            log.warning("trials did not stop in time; they continue from their last checkpoint")
            bridge.close()
            return
    if bridge.error or ended[0]:
        # What our hooks raise comes back wrapped in errors of Ray's own; the first of ours is the cause.
        raise bridge.error or ended[0]  # type: ignore[misc]


def _tuner(bridge: "_Bridge", factory: BodyFactory, folder: Path) -> tune.Tuner:
    resources = bridge.coordinator.file.resources
    share: dict[str, float] = {"cpu": resources.cpus_per_trial}
    if resources.gpus_per_trial:
        share["gpu"] = resources.gpus_per_trial
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(TrialActor, shipped=packed(factory, ray.cloudpickle.dumps)), share),
        tune_config=tune.TuneConfig(
            num_samples=-1,
            search_alg=_Searcher(bridge),
            scheduler=_Scheduler(bridge),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(name=uuid.uuid4().hex, storage_path=str(folder), verbose=0),
    )


class _Patience:
    """Decides how long a stop may take: long where a trial has a state to save, short where all workers still start."""

    def __init__(self, bridge: "_Bridge") -> None:
        self._bridge, self._since = bridge, 0.0

    def is_over(self) -> bool:
        if self._bridge.control.level() is not Level.NOW:
            return False
        self._since = self._since or time.monotonic()
        limit = SAVING_SECONDS if self._bridge.answered else STARTING_SECONDS
        return time.monotonic() - self._since > limit


class TrialActor(tune.Trainable):  # type: ignore[misc]  # Ray ships no types
    """Runs one trial after another in a worker that stays warm: torch is imported once."""

    def setup(self, config: dict[str, Any], shipped: Shipped) -> None:
        self._factory = shipped.opened()
        self._body = self._factory(config["job"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._body = self._factory(new_config["job"])
        return True

    def step(self) -> dict[str, Any]:
        event = self._body.step()
        return {"event": event, "done": not isinstance(event, Measured | Waiting | Restarted | Reached)}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Does nothing, since trials keep their own checkpoints in the study's folder."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Does nothing: see save_checkpoint."""


class _Bridge:
    """Presents the coordinator to Ray Tune's hooks: jobs by Tune's trial ids, errors kept for the caller."""

    def __init__(self, coordinator: "Coordinator", control: StopControl, slots: int) -> None:
        self.coordinator, self.control, self.slots = coordinator, control, slots
        self.jobs: dict[str, Job] = {}
        self.error: NasError | None = None
        self.answered = False
        """True once any worker has reported anything."""
        self._turn, self._closed = threading.RLock(), False

    def close(self) -> None:
        """Waits for a hook under way. No later hook of Ray Tune reaches the coordinator."""
        with self._turn:
            self._closed = True

    def suggest(self, trial_id: str) -> Any:
        """Returns a configuration, FINISHED, or None, which means: ask again later."""
        with self._turn:
            return Searcher.FINISHED if self._closed else self._suggest(trial_id)

    def _suggest(self, trial_id: str) -> Any:
        flying = len(self.coordinator.running)
        if self.control.level() is not Level.GO or self.error:
            return None if flying else Searcher.FINISHED
        if flying >= self.slots:
            return None
        job = self._guard(self.coordinator.next_job)
        if job is None:
            return None if flying else Searcher.FINISHED
        self.jobs[trial_id] = job
        return {"job": job}

    def result(self, trial: Any, result: dict[str, Any] | None) -> str:
        """Returns Ray Tune's word for what the trial does next."""
        with self._turn:
            return str(TrialScheduler.STOP) if self._closed else self._result(trial, result)

    def _result(self, trial: Any, result: dict[str, Any] | None) -> str:
        job, event = self.jobs.get(trial.trial_id), (result or {}).get("event")
        if job is None or event is None:
            return str(TrialScheduler.CONTINUE)  # Ray reports a stopped trial as complete once more
        self.answered = True
        goes_on = self._guard(lambda: self.coordinator.report(job, event))
        if goes_on and self.control.level() is not Level.NOW:
            return str(TrialScheduler.CONTINUE)
        if goes_on:
            self._guard(lambda: self.coordinator.report(job, Interrupted()))
        del self.jobs[trial.trial_id]
        return str(TrialScheduler.STOP)

    def crashed(self, trial: Any) -> None:
        with self._turn:
            job = None if self._closed else self.jobs.pop(trial.trial_id, None)
        if job is not None:
            self._guard(lambda: self.coordinator.crashed(job, f"the worker died: {_cause(trial)}"))

    def _guard(self, call: Callable[[], Any]) -> Any:
        """Keeps the first error, and has all trials save and stop: Ray would swallow the error, or lose what runs."""
        try:
            return call()
        except NasError as error:
            self.error = self.error or error
            self.control.raise_to(Level.NOW)
            return None


def _cause(trial: Any) -> str:
    """Returns the last line of Ray's text for the error; the pickled form is never opened."""
    path = getattr(trial, "error_file", None)
    if not path or not Path(path).exists():
        return "no cause given"
    lines = Path(path).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "no cause given"


class _Searcher(Searcher):  # type: ignore[misc]  # Ray ships no types
    def __init__(self, bridge: _Bridge) -> None:
        super().__init__(metric=None, mode=None)
        self.bridge = bridge

    def suggest(self, trial_id: str) -> Any:
        return self.bridge.suggest(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Does nothing, since the scheduler's hooks take everything in."""

    def save(self, checkpoint_path: str) -> None:
        """Saves nothing, since the study is in the database."""

    def restore(self, checkpoint_path: str) -> None:
        """Restores nothing: see save."""

    def __reduce__(self) -> Any:
        return (Searcher, (None, None))


class _Scheduler(FIFOScheduler):  # type: ignore[misc]  # Ray ships no types
    def __init__(self, bridge: _Bridge) -> None:
        super().__init__()
        self.bridge = bridge

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return self.bridge.result(trial, result)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self.bridge.result(trial, result)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self.bridge.crashed(trial)

    def __reduce__(self) -> Any:
        return (FIFOScheduler, ())
