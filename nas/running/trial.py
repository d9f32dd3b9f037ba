"""Runs a real trial in a worker: builds, measures, trains rung by rung, evaluates. The only search code with torch."""

import errno
import gc
import platform
import traceback
from collections.abc import Callable, Mapping
from functools import cache, cached_property, partial
from pathlib import Path

import torch

from nas.architecture import Architecture
from nas.errors import OutOfReach
from nas.measure import DeviceLock
from nas.measure.exclusive import step_lock
from nas.measure.latency import MeasuringStopped
from nas.measure.memory import MIB
from nas.measurement import TimedMetrics
from nas.reasons import Reason
from nas.results import ATTENTION_MAPS
from nas.running.events import (
    Blocked,
    Completed,
    Event,
    Failed,
    Interrupted,
    Job,
    Measured,
    Reached,
    Restarted,
    Waiting,
)
from nas.running.measuring import LoneMeasurement, joined
from nas.running.placement import rank_devices, threads_of
from nas.running.stop_control import told_to_stop
from nas.running.target_measuring import COMPILED, EAGER
from nas.settings.study_file import StudyFile
from nas.settings.task_settings import TaskSettings
from nas.tasks import Task, open_task
from nas.training import attention_maps
from nas.training.checkpoints import TrialCheckpoints
from nas.training.data_parallel import DataParallel
from nas.training.execution import chosen_execution
from nas.training.folder_names import MODEL_FILES
from nas.training.memory_forecast import training_mib
from nas.training.model_folder import save_weights
from nas.training.ranks import RankLost
from nas.training.trainer import Diverged, TimeLimit, Trainer, TrainingInterrupted
from nas.trial_files import RunFolder, TrialFiles


class TrialRun:
    """Runs one job, as its body (nas.running.events.Body).

    The first step measures what is known without training, or repeats what an earlier attempt stored. Each further step
    trains to the next rung. Rungs that a checkpoint holds are reported again, and the coordinator keeps each once.
    `should_stop` is asked before every step; by default it looks for the request in the study's folder. `run_folder`
    keeps checkpoints and weights; by default it is the study's folder.
    """

    def __init__(
        self,
        job: Job,
        *,
        file: StudyFile,
        folder: Path,
        device: str,
        should_stop: Callable[[], bool] | None = None,
        run_folder: RunFolder | None = None,
    ) -> None:
        share_gpu(device, file.resources.gpus_per_trial)
        torch.set_num_threads(threads_of(file, device))
        self.job, self.file, self.device = job, file, device
        self.should_stop = should_stop or partial(told_to_stop, folder)
        self.run_folder = run_folder or RunFolder(str(folder))
        self.architecture = Architecture.model_validate(dict(job.architecture))
        self.lock = DeviceLock(device)
        self.metrics = dict(job.metrics)
        self._trainer: Trainer | None = None
        self._told = 0
        self._measured = False

    def step(self) -> Event:
        """Returns the next event. Failures become events with a reason; nothing is raised."""
        try:
            if self.should_stop():
                return Interrupted()
            return self._train() if self._measured else self._measure()
        except Exception as error:  # noqa: BLE001  any error is the trial's result, and the search continues
            event = event_of(error)
        if isinstance(event, Failed) and event.reason == Reason.OOM:
            self._free()
        return event

    def _free(self) -> None:
        """Gives memory back that the trial has taken, so that the next one on this GPU finds it."""
        self._trainer = None
        for name in ("_measurement", "_compiled_measurement"):
            self.__dict__.pop(name, None)
        gc.collect()
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()

    def _measure(self) -> Event:
        """Measures what is not known yet: first all that is eager, then, if the trial may go on, what is compiled."""
        if not self.metrics:
            self._refuse_too_large()
            found = self._measurement.step()
        elif self._lacks_compiled:
            found = self._compiled_measurement.step()
        else:
            found = TimedMetrics({})
        if isinstance(found, Waiting):
            return found
        known = joined(TimedMetrics(self.metrics), found)
        self.metrics, measurement = dict(known.metrics), known.measurement
        self._measured = not self._lacks_compiled
        return Measured(self.metrics, measurement, more=not self._measured)

    @property
    def _lacks_compiled(self) -> bool:
        wanted = [target for target in self.file.targets if target.runtime == COMPILED]
        return any(target.of("prefill_ms") not in self.metrics for target in wanted)

    def _refuse_too_large(self) -> None:
        """Raises OutOfMemoryError where training is sure to need more memory than the trial has on each of its GPUs."""
        if not self.device.startswith("cuda"):
            return
        task, train, ranks = task_of(self.file.task), self.file.train, len(rank_devices(self.file, self.device))
        execution = chosen_execution(train, self.device)
        needed, given = (
            training_mib(self.architecture, task, train, execution, ranks),
            memory_mib(self.file, self.device),
        )
        if needed > given:
            raise torch.OutOfMemoryError(
                f"training takes at least {needed:,.0f} MiB, and the trial has {given:,.0f} MiB of its GPU; "
                "set train.micro_batch, or raise resources.gpus_per_trial"
            )

    @cached_property
    def files(self) -> TrialFiles:
        return opened(self.run_folder, self.job.number)

    @cached_property
    def _measurement(self) -> LoneMeasurement:
        return self._new_measurement(EAGER)

    @cached_property
    def _compiled_measurement(self) -> LoneMeasurement:
        return self._new_measurement(COMPILED)

    def _new_measurement(self, runtime: str) -> LoneMeasurement:
        task, stop = task_of(self.file.task), self.should_stop
        return LoneMeasurement.of(
            self.architecture, task, self.file, self.device, self.lock, should_stop=stop, runtimes=(runtime,)
        )

    def _train(self) -> Event:
        if self._trainer is None:
            self._trainer = self._new_trainer()
            if why := self._begun_anew(self._trainer):
                return Restarted(why)
        trainer = self._trainer
        if self._told < len(trainer.rungs):
            rung = trainer.rungs[self._told]
        else:
            rung = trainer.run_to_next_rung()
        self._told += 1
        if not (trainer.done and self._told == len(trainer.rungs)):
            return Reached(rung, trainer.checkpoints.newest if trainer.checkpoints else "")
        metrics = {**self.metrics, **rung.metrics}
        self._keep(trainer, metrics)
        return Completed(rung, metrics)

    def _keep(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        """Keeps the trained model: its weights last, so that a folder without them is not whole."""
        folder = self.files.path
        self.files.require()
        save_weights(
            folder,
            trainer.model,
            self.architecture,
            coder=trainer.task.coder,
            context=trainer.task.context,
            head=trainer.task.head,
            metrics=metrics,
        )
        shown = attention_maps.of(trainer.model, self.architecture, trainer.task, self.device)
        attention_maps.save(folder / ATTENTION_MAPS, shown)
        for name in (ATTENTION_MAPS, *reversed(MODEL_FILES)):
            self.files.publish(name)

    def _begun_anew(self, trainer: Trainer) -> str:
        """Tells why a training that had reached a rung begins again; empty where it goes on, or begins first."""
        if trainer.anew:
            return trainer.anew.replace(str(self.files.path), self.files.place)
        return "" if trainer.step or not self.job.rungs else absent(self.job, self.files)

    def _new_trainer(self) -> Trainer:
        return Trainer(
            self.architecture,
            task_of(self.file.task),
            self.file.train,
            seed=self.job.seed,
            device=self.device,
            checkpoint=TrialCheckpoints(self.files, self.job.attempt),
            learning_rate=self.job.learning_rate,
            lock=step_lock(self.lock, rank_devices(self.file, self.device)),
            should_stop=self.should_stop,
            parallel=team_of(self.file, self.device),
        )


def opened(run_folder: RunFolder, number: int) -> TrialFiles:
    """Returns the files of a trial. Raises Conflict for a link out of the folder, and OutOfReach where that is gone."""
    run_folder.require()
    return run_folder.trial(number)


def absent(job: Job, files: TrialFiles) -> str:
    """Tells that an earlier attempt reached a rung, and its files are not here."""
    there = f"on {job.before}" if job.before and job.before != platform.node() else "gone, or on another machine"
    return f"its checkpoint is {there}, and not in {files.place}; a --folder that all machines share keeps it for all"


def event_of(error: BaseException) -> Event:
    """Returns the event of a trial that ends in this exception."""
    match error:
        case TrainingInterrupted() | MeasuringStopped():
            return Interrupted()
        case Diverged():
            return Failed(Reason.NAN, error.render())
        case TimeLimit():
            return Failed(Reason.TIMEOUT, error.render())
        case RankLost():
            return Failed(Reason.ERROR, error.render())
        case OutOfReach():
            return Blocked(error.message, error.where, error.detail, error.help)
        case torch.OutOfMemoryError() | MemoryError():
            return Failed(Reason.OOM, str(error))
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return Blocked(f"cannot be written: {error.strerror}", str(error.filename or ""), help="free some space")
        case _ if "can't allocate memory" in str(error):  # the CPU allocator has no exception of its own
            return Failed(Reason.OOM, str(error))
        case _:
            return Failed(Reason.ERROR, "".join(traceback.format_exception(error)))


@cache
def task_of(settings: TaskSettings) -> Task:
    """Opens the task once in each worker, not once a trial."""
    return open_task(settings)


_team: list[DataParallel] = []
"""The processes that train with this one. They stay for the next trial, which needs the same."""


def team_of(file: StudyFile, device: str) -> DataParallel | None:
    """Returns the processes that share this process's trainings; None where it trains alone."""
    devices = rank_devices(file, device)
    if len(devices) == 1:
        return None
    wanted = (file.task, devices, threads_of(file, device))
    if _team and (_team[0].task, _team[0].devices, _team[0].threads) != wanted:
        end_team()
    if not _team:
        _team.append(DataParallel(*wanted))
    return _team[0]


def end_team() -> None:
    """Ends the processes that train with this one, if there are any."""
    while _team:
        _team.pop().close()


def memory_mib(file: StudyFile, device: str) -> float:
    """Returns the memory that a trial may take on its GPU, or on each of them."""
    whole = torch.cuda.get_device_properties(torch.device(device)).total_memory / MIB
    share = file.resources.gpus_per_trial
    return float(whole * share if 0 < share < 1 else whole)


def share_gpu(device: str, share: float) -> None:
    """Sets the memory limit of a trial's share of a GPU.

    Ray only counts fractions, so the process must set the limit.
    """
    if device.startswith("cuda") and 0 < share < 1:
        torch.cuda.set_per_process_memory_fraction(share)
