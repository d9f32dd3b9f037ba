"""Runs a trial whose body is the user's own, as a worker does, and checks all that it yields."""

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from nas import body as public
from nas.architecture import Architecture
from nas.errors import NasError
from nas.measure import DeviceLock
from nas.reasons import Reason
from nas.results import Rung
from nas.running.events import Completed, Event, Failed, Interrupted, Job, Measured, Reached, Restarted
from nas.running.own_body import OwnBody
from nas.running.own_files import OwnFiles
from nas.running.stop_control import told_to_stop
from nas.running.trial import absent, event_of, opened
from nas.settings.study_file import StudyFile
from nas.training.trainer import rung_steps
from nas.trial_files import RunFolder

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,99}")
"""A metric that the file does not declare must have such a name."""


class OwnTrial:
    """Runs one job (as nas.running.events.Body) with the generator that the user's function makes.

    Whatever the generator raises, yields or leaves out becomes an event with a reason; nothing is raised. The first
    event is always Measured: measurements of an earlier attempt stay.
    """

    def __init__(
        self,
        job: Job,
        *,
        body: OwnBody,
        file: StudyFile,
        folder: Path,
        device: str,
        should_stop: Callable[[], bool] | None = None,
        run_folder: RunFolder | None = None,
    ) -> None:
        self.job, self.file, self.body, self.device = job, file, body, device
        self.run_folder = run_folder or RunFolder(str(folder))
        self.told_to_stop = should_stop or partial(told_to_stop, folder)
        spent = max((rung.seconds for rung in job.rungs), default=0.0)
        self.turn = Turn(DeviceLock(device), self.told_to_stop, spent, file.train.time_limit)
        self.steps = rung_steps(file.train)
        self.metrics = dict(job.metrics)
        self._known = file.own_metrics()
        self._events: Iterator[public.Said] | None = None
        self._ahead: public.Said | None = None
        self._brought, self._lost = False, ""
        self._measured, self._last, self._final = False, 0, dict[str, float]()

    def step(self) -> Event:
        """Returns the next event."""
        try:
            if self.told_to_stop():
                return self._ended(Interrupted())
            if not self._measured:
                return self._measure()
            if self._lost:
                why, self._lost = self._lost, ""
                return Restarted(why)
            return self._checked(self._next())
        except StopIteration:
            return self._ended(self._silence())
        except _Bad as bad:
            return self._ended(bad.event)
        except (Exception, SystemExit) as error:  # noqa: BLE001  any error is the trial's result, and the search continues
            return self._ended(event_of(error))

    @cached_property
    def _files(self) -> OwnFiles:
        return OwnFiles(opened(self.run_folder, self.job.number))

    def _next(self) -> public.Said:
        if self._ahead is not None:
            said, self._ahead = self._ahead, None
            return said
        if not self._brought:
            found, self._brought = self._files.bring(), True
            self._lost = absent(self.job, self._files.files) if self.job.rungs and not found else ""
        with self.turn.computing():
            if self._events is None:
                self._events = self._started()
            return next(self._events)

    def _started(self) -> Iterator[public.Said]:
        events = self.body.function()(self._public_job())
        if not isinstance(events, Iterator):
            raise _Bad(Reason.ERROR, f"a body is a generator that yields its results, but this gave {_kind(events)}")
        return events

    def _measure(self) -> Event:
        self._ahead, self._measured = self._next(), True
        if isinstance(self._ahead, public.Measured):
            told, self._ahead = self._ahead, None
            self.metrics = dict(self.job.metrics) or self._numbers(told.metrics, "before training")
        return Measured(self.metrics)

    def _checked(self, said: public.Said) -> Event:
        match said:
            case public.Reached(step, metrics):
                if step not in self.steps or step <= self._last:
                    rungs = ", ".join(map(str, self.steps))
                    after = f" after {self._last}" if self._last else ""
                    raise _Bad(
                        Reason.ERROR, f"step {step!r}{after} is not a rung to reach; the rungs are {rungs}, in order"
                    )
                self._last = step
                if step == self.steps[-1]:  # nothing is left to stop: it counts with what is yielded at the end
                    self._final = self._numbers(metrics, f"at step {step}")
                    return self._checked(self._next())
                self._files.store()
                return Reached(Rung(step, self.turn.seconds(), self._numbers(metrics, f"at step {step}")))
            case public.Finished(metrics):
                final = self._final | self._numbers(metrics, "at the end")
                known = {**self.metrics, **final}
                if missing := [o.metric for o in self.file.objective_list() if o.metric not in known]:
                    raise _Bad(Reason.ERROR, f"the final metrics lack {', '.join(missing)}: there is {_listed(known)}")
                self._files.store()
                return self._ended(Completed(Rung(self.steps[-1], self.turn.seconds(), final), known))
            case public.Measured():
                raise _Bad(Reason.ERROR, "Measured comes first, and once")
            case _:
                raise _Bad(Reason.ERROR, f"a body yields Measured, Reached or Finished, not {_kind(said)}")

    def _silence(self) -> Event:
        """Decides which event it is when the generator ends without Finished."""
        if self.turn.late:
            return Failed(Reason.TIMEOUT, f"training took longer than {self.file.train.time_limit:g} s")
        if self.told_to_stop():
            return Interrupted()
        return Failed(Reason.ERROR, "the body ended without Finished")

    def _ended(self, event: Event) -> Event:
        """Lets the generator clean up, and ignores errors of that."""
        close = getattr(self._events, "close", None)
        if close:
            with suppress(Exception, SystemExit):
                close()
        if isinstance(event, Interrupted) and self._brought:
            try:
                self._files.store()
            except NasError as error:
                return event_of(error)
        return event

    def _numbers(self, metrics: Mapping[str, Any], when: str) -> dict[str, float]:
        """Returns the metrics as finite numbers. Raises _Bad."""
        if not isinstance(metrics, Mapping):
            raise _Bad(Reason.ERROR, f"metrics are numbers by name, not {_kind(metrics)}")
        found = {name: _number(name, value) for name, value in metrics.items()}
        for name, value in found.items():
            if not math.isfinite(value):
                raise _Bad(Reason.NAN, f"{name} is {value} {when}")
            if name in self._known and self._known[name].log and value <= 0:
                text = f"{name} = {value:g} {when} must be above 0, since [metrics.{name}] has log = true"
                raise _Bad(Reason.ERROR, text)
        return found

    def _public_job(self) -> public.Job:
        job = self.job
        return public.Job(
            number=job.number,
            attempt=job.attempt,
            seed=job.seed,
            parameters=dict(job.parameters),
            architecture=Architecture.model_validate(dict(job.architecture)) if job.architecture else None,
            learning_rate=job.learning_rate,
            steps=self.steps[-1],
            rungs=self.steps,
            folder=self._files.path,
            device=self.device,
            cpus=self.file.resources.cpus_per_trial,
            measured=dict(job.metrics),
            reached=job.rungs,
            settings=self.file.resolved(),
            should_stop=self.turn.should_stop,
            measuring=self.turn.measuring,
        )


class Turn:
    """Holds the device's lock as a training does while the body computes, and counts those seconds.

    It holds neither the trial nor the generator, so a body that is dropped is freed at once.
    """

    def __init__(
        self, lock: DeviceLock, told_to_stop: Callable[[], bool], spent: float, time_limit: float | None
    ) -> None:
        self._lock, self._held, self._told_to_stop, self._time_limit = lock, ExitStack(), told_to_stop, time_limit
        self._spent, self._since, self.late = spent, math.nan, False

    def should_stop(self) -> bool:
        """Tells whether the body is to save and return. It waits for measurements before it answers."""
        self._leave()
        self._take()
        self.late = self.late or (self._time_limit is not None and self.seconds() > self._time_limit)
        return self.late or self._told_to_stop()

    def seconds(self) -> float:
        """Returns the seconds of training so far, over all attempts, without pauses and measurements."""
        return self._spent + (0.0 if math.isnan(self._since) else time.monotonic() - self._since)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Holds the lock around all that the body does between two results."""
        self._take()
        try:
            yield
        finally:
            self._leave()

    @contextmanager
    def measuring(self) -> Iterator[float]:
        """Holds the device alone. Yields the seconds waited."""
        self._leave()
        try:
            with self._lock.measuring() as waited:
                yield waited
        finally:
            self._take()

    def _take(self) -> None:
        self._held.enter_context(self._lock.training_step())
        self._since = time.monotonic()

    def _leave(self) -> None:
        if not math.isnan(self._since):
            self._spent += time.monotonic() - self._since
        self._since = math.nan
        self._held.close()


class _Bad(Exception):
    """Something that the body yielded is wrong."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.event = Failed(reason, detail)


def _number(name: Any, value: Any) -> float:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise _Bad(Reason.ERROR, f"a metric's name is a short text without spaces, not {name!r:.80}")
    if isinstance(value, (str, bytes)):
        raise _Bad(Reason.ERROR, f"{name} is {value!r:.80}, which is not a number")
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise _Bad(Reason.ERROR, f"{name} is {_kind(value)}, which is not a number") from None


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _listed(metrics: Mapping[str, float]) -> str:
    return ", ".join(metrics) or "none"
