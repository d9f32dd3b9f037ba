"""Runs trials with Ray Tune: it schedules them, places them and keeps workers warm. It decides nothing and stores
nothing.

Ray Tune asks the source of jobs in `suggest`, and reports to it in the scheduler's hooks. Ray Tune's own state is
written to a temporary folder and never restored: each launch is a new experiment over the same study. The reasons are:

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
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.errors import OutOfReach
from nas.running.events import BodyFactory, waiting
from nas.running.helper_processes import HANGING_THREAD
from nas.running.placement import Placement
from nas.running.ray_connection import SETTINGS, ray
from nas.running.ray_start import OwnRay
from nas.running.ray_trainable import placed, plain_values, substitute
from nas.running.ray_worker import TrialActor, actor_of
from nas.running.shipping import packed
from nas.running.stop_control import Level, StopControl
from nas.running.tune_bridge import RESUME, Bridge, OneMachine, cause_of
from nas.surroundings import environment_variables

if TYPE_CHECKING:
    from nas.running.job_source import JobSource

with environment_variables(SETTINGS):
    from ray import tune
    from ray.tune.schedulers import FIFOScheduler
    from ray.tune.search import Searcher

log = logging.getLogger("nas")

ESSENTIAL = ("gcs_server", "raylet")
"""Ray can do nothing without these processes."""
WATCH_SECONDS = 0.2
SAVING_SECONDS, STARTING_SECONDS = 60.0, 5.0


def run(
    source: "JobSource",
    factory: BodyFactory,
    control: StopControl,
    placement: Placement,
    own: OwnRay | None = None,
) -> None:
    """Runs until the source of jobs has nothing more, or the control says stop.

    Uses the Ray that has begun to start, or one that it starts, and ends it; or uses the cluster that the placement has
    joined. Raises OutOfReach when Ray does not start or dies, Conflict when this program uses Ray already.
    """
    bridge = Bridge(source, control, OneMachine(placement.slots), placement.cluster)
    with tempfile.TemporaryDirectory(prefix="nas-tune-", ignore_cleanup_errors=True) as folder:
        if placement.cluster:
            with bridge.watched():
                _fit(bridge, factory, placement, Path(folder), bridge.fault)
            return
        source.observer(waiting("ray"))
        with closing(own or OwnRay.begin(placement, source.left)) as started:
            first_dead = partial(started.processes().first_dead, *ESSENTIAL)
            _fit(bridge, factory, placement, Path(folder), partial(_dead, first_dead))


def _dead(first: Callable[[], str]) -> str:
    return f"Ray's process '{name}' has ended" if (name := first()) else ""


def _fit(bridge: Bridge, factory: BodyFactory, placement: Placement, folder: Path, fault: Callable[[], str]) -> None:
    """Runs Tune's loop to its end, or until Ray dies or a stop takes too long. Raises what our hooks raise."""
    bridge.control.install_handlers()
    bridge.source.observer(waiting("workers"))
    ended: list[BaseException | None] = []

    def fit() -> None:
        try:
            claim = placement.cluster.mine.name if placement.cluster else ""
            actor = actor_of(packed(factory, ray.cloudpickle.dumps), claim)
            with plain_values():
                _tuner(bridge, actor, folder).fit()
            ended.append(None)
        except BaseException as error:  # noqa: BLE001  raised again by the thread that waits
            ended.append(error)

    loop = threading.Thread(target=fit, name=HANGING_THREAD, daemon=True)
    loop.start()
    patience = _Patience(bridge)
    while loop.is_alive():
        loop.join(WATCH_SECONDS)
        if loop.is_alive() and (what := fault()):
            bridge.close()
            raise bridge.error or OutOfReach(what, code="ray", help=RESUME)
        if loop.is_alive() and patience.is_over():
            log.warning("trials did not stop in time; they continue from their last checkpoint")
            bridge.close()
            return
    if bridge.error or ended[0]:
        # What our hooks raise comes back wrapped in errors of Ray's own; the first of ours is the cause.
        raise bridge.error or ended[0]  # type: ignore[misc]


def _tuner(bridge: Bridge, actor: type[TrialActor], folder: Path) -> tune.Tuner:
    resources = bridge.source.file.resources
    share: dict[str, float] = {"CPU": resources.cpus_per_trial}
    if resources.gpus_per_trial:
        share["GPU"] = resources.gpus_per_trial
    return tune.Tuner(
        placed(share),
        tune_config=tune.TuneConfig(
            num_samples=-1,
            search_alg=_Searcher(bridge),
            scheduler=_Scheduler(bridge, actor),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=uuid.uuid4().hex,
            storage_path=str(folder),
            verbose=0,
            # Trials keep checkpoints of their own, in the study's folder.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )


class _Patience:
    """Decides how long a stop may take: long where a trial has a state to save, short where all workers still start."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge, self._since = bridge, 0.0

    def is_over(self) -> bool:
        if self._bridge.control.level() is not Level.NOW:
            return False
        self._since = self._since or time.monotonic()
        limit = SAVING_SECONDS if self._bridge.answered else STARTING_SECONDS
        return time.monotonic() - self._since > limit


class _Searcher(Searcher):  # type: ignore[misc]  # Ray ships no types
    def __init__(self, bridge: Bridge) -> None:
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
    def __init__(self, bridge: Bridge, actor: type[TrialActor]) -> None:
        super().__init__()
        self.bridge, self.actor = bridge, actor

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        substitute(tune_controller, self.actor, bool(self.bridge.cluster))
        super().on_trial_add(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Takes back the trials that wait for a node that has left. Ray Tune itself would wait for it for ever."""
        for trial_id in self.bridge.never_started():
            trial = tune_controller.get_trial(trial_id)
            if trial is not None and trial.status == trial.PENDING:
                _unstage(tune_controller, trial)
                trial.init_local_path()  # Ray Tune looks into the folder of every trial at the end
                tune_controller.stop_trial(trial)
                self.bridge.put_back(trial_id)
        return super().choose_trial_to_run(tune_controller)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return self.bridge.result(trial.trial_id, result)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self.bridge.result(trial.trial_id, result)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        _unstage(tune_controller, trial)
        self.bridge.crashed(trial.trial_id, cause_of(trial))

    def __reduce__(self) -> Any:
        return (FIFOScheduler, ())


def _unstage(tune_controller: Any, trial: Any) -> None:
    """Has Ray Tune expect no worker for a trial that has ended before it had one.

    Ray Tune forgets this itself. It then keeps no other worker warm for as long as it runs.
    """
    if trial in tune_controller._staged_trials:
        tune_controller._unstage_trial_with_resources(trial)
