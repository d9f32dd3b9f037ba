"""Writes the report of a study: one page that needs no network, and its data as CSV, Parquet, JSON, SVG and PNG.

It reads everything from a `StudyRecord`, and needs no torch, ray or optuna.
"""

from pathlib import Path

from nas.results import StudyRecord


def write(record: StudyRecord, folder: Path) -> Path:
    """Writes the report into `folder`, whole or not at all, and returns the path of its index.html.

    An earlier report there is replaced. Raises Conflict when the folder holds anything else, and OutOfReach when the
    disk refuses the files.
    """
    # matplotlib takes a second to load, and the tables alone do not need it.
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
