"""Holds what every transaction on the jobs of one study shares: the database, the locks, and the count of changes.

Two locks keep the order. Whoever hands out, numbers or adds jobs first locks the study's row in Optuna's own table, as
Optuna does when it numbers a trial. Whoever changes a job takes its row, and at the end the study's row in
`nas_studies`, which counts the changes: that lock is held until the COMMIT, so changes become visible in the order of
their numbers, and a reader who has seen number 7 has missed nothing up to 7. All take these locks in the one order
studies, nas_jobs, nas_studies, so that no two wait for each other.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import sqlalchemy as sql

from nas.errors import Conflict
from nas.study import study_rows
from nas.study.job_tables import JOBS, STUDIES
from nas.study.optuna_tables import StoredRows, schema_of, tables_of
from nas.study.transactions import Database
from nas.study.trial_rows import TrialRows


class StudyJobs:
    """Gives access to the jobs of one study. It reads and changes nothing by itself."""

    def __init__(self, database: Database, study_id: int) -> None:
        """The study exists in the database. Raises Conflict where Optuna's tables are of an unknown version."""
        self.database, self.study_id = database, study_id
        if (tables := database.read(tables_of)) is None:
            found = database.read(schema_of)
            text = f"the database has Optuna's tables of version {found}, which nas cannot write"
            raise Conflict(text, code="other-version", help="install the version of Optuna that wrote them")
        self.rows = StoredRows(tables, study_id)
        self.trials = TrialRows(self.rows)

    @classmethod
    def of_name(cls, database: Database, name: str) -> "StudyJobs":
        """Finds the study of that name. Raises Conflict where there is none, and OutOfReach at once."""
        database.check()
        found = database.read(lambda connection: study_rows.find(connection, name))
        if not found:
            text = f"no study '{name}' in this database"
            raise Conflict(text, code="no-such-study", help="nas list   shows the studies")
        return cls(database, found[0][0])

    def lock(self, connection: sql.Connection) -> None:
        """Lets nobody else hand out, number or add jobs until the transaction ends. Raises Conflict."""
        # This excludes Optuna's own lock, and not the checks of foreign keys, for which nobody needs to wait.
        study_id = study_rows.STUDIES.c.study_id
        row = sql.select(study_id).where(study_id == self.study_id).with_for_update(key_share=True)
        if connection.execute(row).first() is None:
            self.deleted()

    def deleted(self) -> NoReturn:
        """Raises Conflict, since somebody deleted the study while it was searched."""
        raise Conflict("the study was deleted while it was searched", code="no-such-study")

    def count_change(self, connection: sql.Connection, trained: int = 0) -> int:
        """Returns the number of the change that this transaction makes, and adds to the count of trained trials."""
        counted = {"version": STUDIES.c.version + 1} | ({"trained": STUDIES.c.trained + trained} if trained else {})
        change = STUDIES.update().where(STUDIES.c.study_id == self.study_id).values(counted)
        version: int | None = connection.execute(change.returning(STUDIES.c.version)).scalar()
        return self.deleted() if version is None else version

    def held(self, connection: sql.Connection, *where: sql.ColumnElement[bool]) -> Sequence[Any]:
        """Returns the rows of jobs for which that holds, and keeps others from changing them meanwhile."""
        rows = sql.select(JOBS).where(JOBS.c.study_id == self.study_id, *where).order_by(JOBS.c.job_id)
        return connection.execute(rows.with_for_update(key_share=True)).all()

    def change(self, connection: sql.Connection, changes: Mapping[int, Mapping[str, Any]], trained: int = 0) -> None:
        """Changes jobs that this transaction holds, each by its id. It comes last, and once.

        PostgreSQL checks the foreign keys of a row anew when a transaction changes it twice, and would then wait for
        whoever has locked the study, who may wait for this transaction.
        """
        version = self.count_change(connection, trained)
        for job_id, values in changes.items():
            connection.execute(JOBS.update().where(JOBS.c.job_id == job_id).values({**values, "version": version}))
