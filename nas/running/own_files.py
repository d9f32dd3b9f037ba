"""Copies the files of a body of the user's own between the folder that it works in and a place elsewhere."""

from pathlib import Path

from nas.errors import NasError
from nas.remote_files import RemoteFiles
from nas.trial_files import TrialFiles, regular

MOST_FILES = 1_000
MOST_BYTES = 2**33
"""The most files of one trial that are copied, and the bytes of all of them."""


class OwnFiles:
    """Keeps the folder of one trial. Where it is no copy of a place elsewhere, nothing is copied."""

    def __init__(self, files: TrialFiles) -> None:
        self.files = files
        self._elsewhere = isinstance(files, RemoteFiles)
        self._stored: dict[str, tuple[int, int]] = {}

    @property
    def path(self) -> Path:
        """Returns the folder in which the body works."""
        return self.files.path

    def bring(self) -> bool:
        """Makes the folder, with what earlier attempts have left. Returns whether there is anything.

        Raises OutOfReach, and NasError where more is there than is copied.
        """
        self.files.require()
        names = self.files.names()
        self.path.mkdir(parents=True, exist_ok=True)
        if self._elsewhere:
            left = MOST_BYTES
            self._refuse_more(len(names), 0)
            for name in names:
                try:
                    left -= self.files.fetch(name, left).stat().st_size
                except ValueError as error:
                    raise NasError(f"the trial's files cannot be brought here: {error}", code="own-files") from error
            self._stored = self._states()
        return bool(names)

    def store(self) -> None:
        """Puts what the body has written since into its place. Raises as `bring`."""
        self.files.require()
        if not self._elsewhere:
            return
        states = self._states()
        self._refuse_more(len(states), sum(size for size, _ in states.values()))
        for name, state in states.items():
            if self._stored.get(name) != state:
                self.files.publish(name)
        self.files.delete(self._stored.keys() - states.keys())
        self._stored = states

    def _states(self) -> dict[str, tuple[int, int]]:
        """Returns the size and the time of each ordinary file."""
        found = {path: path.lstat() for path in regular(self.path)}
        return {str(path.relative_to(self.path)): (each.st_size, each.st_mtime_ns) for path, each in found.items()}

    def _refuse_more(self, count: int, size: int) -> None:
        if count > MOST_FILES or size > MOST_BYTES:
            raise NasError(
                f"the trial has {count:,} files of {size / 2**20:,.0f} MiB, more than are copied to --folder",
                code="own-files",
                where=self.files.place,
                help=f"keep at most {MOST_FILES:,} files of {MOST_BYTES / 2**30:,.0f} GiB in all in job.folder",
            )
