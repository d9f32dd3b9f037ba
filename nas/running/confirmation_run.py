"""Runs the jobs of a confirmation in a worker: trainings with new seeds, tests of them, and measurements."""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

from nas.running.events import Body, Completed, ConfirmationJob, Event, Job, Reached
from nas.running.front_measurement import MEMBER_SECONDS
from nas.running.measuring import LoneMeasurement
from nas.running.own_body import OwnBody
from nas.running.own_files import OwnFiles
from nas.running.own_trial import OwnTrial
from nas.running.trial import TrialRun, task_of
from nas.settings.study_file import StudyFile
from nas.tasks.base import WHOLE
from nas.training.trainer import Trainer
from nas.trial_files import RunFolder, TrialFiles, retraining_name


def confirmation_run(
    job: Job,
    *,
    file: StudyFile,
    folder: Path,
    device: str,
    body: OwnBody | None = None,
    should_stop: Callable[[], bool] | None = None,
    run_folder: RunFolder | None = None,
) -> Body:
    """Makes the body of a job, for a study whose trials are trained by `body`, or by the built-in training.

    `file` is the study's with the steps of the confirmation.
    """
    if not isinstance(job, ConfirmationJob):
        raise TypeError(f"expected a ConfirmationJob, got {type(job).__name__}")
    if body is not None:
        own = OwnRetraining(
            job, body=body, file=file, folder=folder, device=device, should_stop=should_stop, run_folder=run_folder
        )
        return own
    kind = {"training": Retraining, "test": Test, "block": Block}[job.does]
    return kind(job, file=file, folder=folder, device=device, should_stop=should_stop, run_folder=run_folder)


class Retraining(TrialRun):
    """Trains the architecture of a trial with another seed, rung by rung, as the trial was. It measures nothing.

    The checkpoint of the last step stays, for the test.
    """

    job: ConfirmationJob

    def _measure(self) -> Event:
        self._measured = True
        return self._train()

    @cached_property
    def files(self) -> TrialFiles:
        return _files(self.run_folder, self.job)

    def _keep(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        """Keeps nothing but the checkpoint: a confirmation tells what an architecture is worth, and makes no model."""


class Test(Retraining):
    """Evaluates a training on the whole test split, from its last checkpoint. It trains again where that is gone."""

    __test__ = False

    def _train(self) -> Event:
        event = super()._train()
        while isinstance(event, Reached) and self._trainer is not None and self._trainer.done:
            event = super()._train()
        if not isinstance(event, Completed) or self._trainer is None:
            return event
        trainer = self._trainer
        tested = trainer.task.examine(trainer.model, "test", WHOLE, device=trainer.device, turn=trainer.turn)
        return Completed(event.rung, dict(tested.metrics))


class Block(TrialRun):
    """Measures the times of an untrained model once more, while nothing trains on the device."""

    def _refuse_too_large(self) -> None:
        """Refuses nothing, since nothing is trained."""

    @cached_property
    def _measurement(self) -> LoneMeasurement:
        task, stop = task_of(self.file.task), self.should_stop
        return LoneMeasurement.of(
            self.architecture, task, self.file, self.device, self.lock, MEMBER_SECONDS, stop, counted={}
        )


class OwnRetraining(OwnTrial):
    """Runs a body of the user's own once more, with another seed, in a folder of its own."""

    job: ConfirmationJob

    @cached_property
    def _files(self) -> OwnFiles:
        return OwnFiles(_files(self.run_folder, self.job))


def _files(run_folder: RunFolder, job: ConfirmationJob) -> TrialFiles:
    """Returns the files of a training. Raises as `nas.running.trial.opened`."""
    run_folder.require()
    return run_folder.retraining(retraining_name(job.number, job.seed, job.steps))
