"""Lets a driver look as if it had given no sign of life for long, without a wait."""

from nas.study.job_tables import DRIVERS
from nas.study.transactions import Database


def age(database: Database, seconds: float, driver: str | None = None) -> None:
    """Makes heartbeats older: those of one driver, or of all that the study has now."""
    which = DRIVERS.c.driver == driver if driver else DRIVERS.c.driver.is_not(None)
    change = DRIVERS.update().where(which).values(heartbeat=DRIVERS.c.heartbeat - seconds)
    database.write(lambda connection: connection.execute(change))
