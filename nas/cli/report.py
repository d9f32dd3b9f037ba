"""`nas report` writes the Pareto report of a stored study."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import FOLDER, STORAGE, Folder, Storage, StudyName, out_folder


def report(
    study: StudyName,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", parser=out_folder, help="The folder to write; default: reports/STUDY."),
    ] = None,
    storage: Storage = None,
    folder: Folder = None,
    open: Annotated[bool, typer.Option("--open", help="Show the page in the browser.")] = False,
) -> None:
    """Write the report of a study.

    Writes one page, and its data as CSV, Parquet, JSON, SVG and PNG. Prints the page's path. An earlier report in that
    folder is replaced.

    Exit codes: 0; 2 when there is no such study; 4 when the folder holds something else; 5 when the disk cannot be
    written.
    """
    import webbrowser

    from nas import report as reports
    from nas.cli.output import people, tell
    from nas.report.folder import report_folder
    from nas.study import open_study
    from nas.study.run_folders import folder_place

    stored = open_study(study, storage, STORAGE, run_folder=folder_place(folder, FOLDER))
    if stored.files_elsewhere:
        people().print(f"The report has no attention maps: {stored.files_elsewhere}", soft_wrap=True)
    page = reports.write(stored.record_for_report(), out or report_folder(stored.name))
    tell(str(page))
    if open:
        webbrowser.open(page.absolute().as_uri())
