"""Defines what an executor needs of whoever hands out jobs: a search's coordinator, or a confirmation."""

from collections.abc import Sized
from typing import Protocol

from nas.running.events import Event, Job, Observer
from nas.settings.study_file import StudyFile


class JobSource(Protocol):
    """Hands out jobs to an executor, and takes in what becomes of them. One thread at a time calls it."""

    file: StudyFile
    observer: Observer

    @property
    def running(self) -> Sized:
        """Returns the jobs that this driver runs."""

    @property
    def end(self) -> object | None:
        """Returns why no more jobs are handed out; None while there may be more."""

    @property
    def left(self) -> int:
        """Returns how many more jobs there may be, for as many workers."""

    def next_job(self) -> Job | None:
        """Returns the next job. None once `end` is set, for good; without an end: ask again later."""

    def report(self, job: Job, event: Event) -> bool:
        """Stores an event of a job. Returns True when it goes on, False when its body is to be dropped."""

    def placed(self, job: Job, hardware: str) -> None:
        """Stores on which hardware of a cluster the job runs."""

    def crashed(self, job: Job, detail: str) -> None:
        """Handles a worker that died."""
