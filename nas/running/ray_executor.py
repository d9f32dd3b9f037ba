"""Ray Tune as the executor: it schedules, places and keeps workers warm. It decides nothing and remembers nothing.

The coordinator is asked in `suggest` and told in the scheduler's hooks. Ray Tune's own state is written to a
temporary folder and never restored: each launch is a new experiment over the same study. Why it is built so:

- `Tuner` pickles searcher and scheduler, so both reduce to inert stubs; nothing of ours reaches Ray's files.
- An exception in a searcher's `on_trial_complete` is swallowed and repeated as an error, so results are taken in
  the scheduler's hooks; a result with `done` skips `on_trial_result` and arrives in `on_trial_complete`.
- Stock recovery loses and repeats trials (ray-project/ray#30838, #42221, #30223).
"""

import logging
import os
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nas.errors import NasError, OutOfReach
from nas.running.coordinator import Coordinator
from nas.running.events import BodyFactory, Interrupted, Job, Measured, Reached
from nas.running.placement import Placement
from nas.running.stop_control import Level, StopControl

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
for _name, _value in SETTINGS.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402  (reads the settings above while it is imported)
from ray import tune  # noqa: E402
from ray.tune.schedulers import FIFOScheduler, TrialScheduler  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402

log = logging.getLogger("nas")


def run(coordinator: Coordinator, factory: BodyFactory, control: StopControl, placement: Placement) -> None:
    """Until the coordinator has nothing more, or the control says stop. Starts Ray on this machine, and ends it."""
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(placement.slots)
    with tempfile.TemporaryDirectory(prefix="nas-tune-", ignore_cleanup_errors=True) as folder:
        try:
            _start_ray(placement)
            control.install_handlers()
            _fit(_Bridge(coordinator, control, placement.slots), factory, Path(folder))
        finally:
            ray.shutdown()


def _start_ray(placement: Placement) -> None:
    # Ray's warnings are about what is done here on purpose; its errors reach us as exceptions.
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    try:
        ray.init(
            num_cpus=int(placement.cpus),
            num_gpus=int(placement.gpus),
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            ignore_reinit_error=True,
        )
    except Exception as error:  # Ray raises every class here, Exception itself included
        raise OutOfReach(
            f"Ray does not start: {(str(error) or type(error).__name__).splitlines()[0]}", code="ray"
        ) from error


def _fit(bridge: "_Bridge", factory: BodyFactory, folder: Path) -> None:
    resources = bridge.coordinator.file.resources
    share: dict[str, float] = {"cpu": resources.cpus_per_trial}
    if resources.gpus_per_trial:
        share["gpu"] = resources.gpus_per_trial
    trainable = tune.with_resources(tune.with_parameters(TrialActor, factory=factory), share)
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            num_samples=-1,
            search_alg=_Searcher(bridge),
            scheduler=_Scheduler(bridge),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(name=uuid.uuid4().hex, storage_path=str(folder), verbose=0),
    )
    try:
        tuner.fit()
    except Exception as error:
        # What our hooks raise comes back wrapped in errors of Ray's own; the first of ours is the cause.
        raise (bridge.error or error) from error
    if bridge.error:
        raise bridge.error


class TrialActor(tune.Trainable):  # type: ignore[misc]  # Ray ships no types
    """Runs one trial after another in a worker that stays warm: torch is imported once."""

    def setup(self, config: dict[str, Any], factory: BodyFactory) -> None:
        self._factory = factory
        self._body = factory(config["job"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._body = self._factory(new_config["job"])
        return True

    def step(self) -> dict[str, Any]:
        event = self._body.step()
        return {"event": event, "done": not isinstance(event, Measured | Reached)}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Trials keep their own checkpoints, in the study's folder."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """See save_checkpoint."""


class _Bridge:
    """The coordinator as Ray Tune's hooks see it: jobs by Tune's trial ids, errors kept for the caller."""

    def __init__(self, coordinator: Coordinator, control: StopControl, slots: int) -> None:
        self.coordinator, self.control, self.slots = coordinator, control, slots
        self.jobs: dict[str, Job] = {}
        self.error: NasError | None = None

    def suggest(self, trial_id: str) -> Any:
        """A configuration, FINISHED, or None: ask again later."""
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
        job, event = self.jobs.get(trial.trial_id), (result or {}).get("event")
        if job is None or event is None:
            return str(TrialScheduler.CONTINUE)  # a trial that was stopped is told complete once more
        goes_on = self._guard(lambda: self.coordinator.report(job, event))
        if goes_on and self.control.level() is not Level.NOW:
            return str(TrialScheduler.CONTINUE)
        if goes_on:
            self._guard(lambda: self.coordinator.report(job, Interrupted()))
        del self.jobs[trial.trial_id]
        return str(TrialScheduler.STOP)

    def crashed(self, trial: Any) -> None:
        job = self.jobs.pop(trial.trial_id, None)
        if job is not None:
            self._guard(lambda: self.coordinator.crashed(job, f"the worker died: {_cause(trial)}"))

    def _guard(self, call: Callable[[], Any]) -> Any:
        """Keep the first error, and have everything save and stop: Ray would swallow it, or lose what runs."""
        try:
            return call()
        except NasError as error:
            self.error = self.error or error
            self.control.raise_to(Level.NOW)
            return None


def _cause(trial: Any) -> str:
    """The last line of Ray's text for the error (its pickled form is left alone)."""
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
        """Everything is taken in by the scheduler's hooks."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to keep: the study is in the database."""

    def restore(self, checkpoint_path: str) -> None:
        """See save."""

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
