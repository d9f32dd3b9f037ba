"""The database of a study, and reading it."""

from nas.study.stored_study import StoredStudy, open_study

__all__ = ["StoredStudy", "open_study"]
