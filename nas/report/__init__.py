"""The report of a study: one page that needs no network, and its data as CSV, Parquet, JSON, SVG and PNG.

Everything is read from a `StudyRecord`; no torch, ray or optuna here.
"""

from pathlib import Path

from nas.results import StudyRecord


def write(record: StudyRecord, folder: Path) -> Path:
    """Write the report into `folder`, whole or not at all, and return the path of its index.html.

    A report that stands there is replaced. Raises Conflict when the folder holds anything else, and OutOfReach when
    the disk refuses.
    """
    # matplotlib takes a second to load, and whoever wants the tables alone does without.
    from nas.report import figures, page, tables
    from nas.report.account import Account
    from nas.report.folder import replacing
    from nas.report.summary import Summary

    summary, account = Summary.of(record), Account.of(record)
    with replacing(folder) as fresh:
        tables.write(record, fresh)
        account.write(fresh)
        drawn = figures.draw(summary, account.importances, fresh)
        (fresh / "index.html").write_text(page.render(summary, account, drawn), encoding="utf-8")
    return folder / "index.html"
