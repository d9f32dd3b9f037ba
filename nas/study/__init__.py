"""This package holds the database of a study, and reads it."""

from nas.study.stored_study import StoredStudy, open_study

__all__ = ["StoredStudy", "open_study"]
