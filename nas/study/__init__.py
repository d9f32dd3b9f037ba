"""The database of a study, and reading it."""

from nas.study.stored_study import Study, open_study

__all__ = ["Study", "open_study"]
