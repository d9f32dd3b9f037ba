"""Searching: the coordinator and what runs it. `open_study` reads a stored study."""

from nas.search.study import Study, open_study

__all__ = ["Study", "open_study"]
