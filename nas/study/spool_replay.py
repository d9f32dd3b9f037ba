"""Tells the results that were kept while the database was out of reach, each at most once."""

import logging

from optuna.trial import TrialState

from nas.errors import Conflict
from nas.study.drivers import Driver
from nas.study.leases import Leases
from nas.study.spool import Spool
from nas.study.study_jobs import StudyJobs

log = logging.getLogger("nas")


def tell_kept(spool: Spool, jobs: StudyJobs) -> int:
    """Tells all results that are kept, and deletes each one then. Returns the number that were new.

    A result is deleted only after the database has taken or refused it, so whoever is killed in between loses nothing.
    Raises OutOfReach where the database does not answer: what is left stays.
    """
    told = 0
    for path in spool.kept():
        result = spool.read(path)
        if result is None:
            continue
        lease = result.lease()
        leases = Leases(jobs, Driver(result.driver, 0, "", ""))
        try:
            new = leases.tell(
                lease,
                TrialState[result.state],
                result.values,
                trained=result.trained,
                attributes=result.attributes,
                violations=result.violations,
            )
        except Conflict as refused:  # another driver has the trial by now, or the study is another one
            log.warning("%s: its kept result is dropped: %s", lease, refused)
        else:
            told += new
            log.warning("%s: its kept result %s", lease, "is told now" if new else "had arrived already")
        spool.drop(path)
    return told
