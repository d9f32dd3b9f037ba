"""`nas data` lists and downloads the data sets that tasks know by name, and prepares texts and tables."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nas.cli.options import Json, Overrides, Preset

data = typer.Typer(
    no_args_is_help=True,
    help="List, download and prepare data.",
)


@data.command("list")
def list_(json: Json = False) -> None:
    """List the data sets known by name, and what is prepared.

    Shows the task, size, licence and source of each data set, and whether it is on this machine. Data sets are kept in
    NAS_DATA_DIR or in the cache; a study downloads what it needs, once. What searches have cut into tokens is listed
    with the size of the tokens.

    Exit code 0.
    """
    from nas.api.data import prepared_data
    from nas.cli.output import emit
    from nas.cli.tables import answers, table
    from nas.data.catalogue import DATASETS

    rows, texts = [_row(name) for name in DATASETS], prepared_data()
    if json:
        for row in rows:
            emit("dataset", **row)
        for text in texts:
            emit("prepared", **text)
        emit("result", datasets=len(rows), present=sum(row["path"] is not None for row in rows))
        return
    shown = table("name", "task", "here", "what")
    for row in rows:
        what = f"{row['size']}, {row['licence']}\n{row['source']}"
        shown.add_row(row["name"], row["task"], "yes" if row["path"] else "no", what)
    answers().print(shown)
    if texts:
        kept = table("prepared data", "MiB", "folder")
        for text in texts:
            kept.add_row(text["name"], f"{text['bytes'] / 2**20:,.1f}", text["folder"])
        answers().print(kept)


@data.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name that `nas data list` shows.")],
    json: Json = False,
) -> None:
    """Download a data set into the cache and check it.

    A broken download continues where it ended. Complete data is only checked.

    Exit codes: 0; 2 for an unknown name, no network, or data that is not what was published; 5 when the disk is full.
    """
    from nas.cli.output import emit, people
    from nas.data import fetch as fetching
    from nas.data.catalogue import DATASETS
    from nas.errors import UsageError, nearest

    if name not in DATASETS:
        raise UsageError(f"no data set '{name}'", code="unknown-data", help=nearest(name, DATASETS))
    dataset = DATASETS[name]
    if not fetching.present(dataset):
        with _Bar(shown=not json) as bar:
            fetching.fetch(dataset, bar)
    fetching.content(dataset)
    path = fetching.present(dataset)
    if json:
        emit("result", name=name, path=str(path), sha256=dataset.sha256)
    else:
        people().print(f"{name}: {dataset.size}, {dataset.licence}, in {path}", soft_wrap=True)


@data.command("prepare")
def prepare(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A study file (TOML).")],
    preset: Preset = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Prepare the text or the table of a study file.

    It is read and cut into tokens. A search does so by itself; preparing ahead shows the progress and the size.
    The tokens are kept in the cache, once a machine, and every worker of every search on this data reads them there.

    Exit codes: 0; 2 when the file or its data is wrong.
    """
    from nas.api.data import prepare_data
    from nas.cli.output import emit, people
    from nas.formatting import duration
    from nas.settings import study_file

    settings = study_file.load(file, overrides or [], preset)
    with _Bar(shown=not json, bytes_=False) as bar:
        told = prepare_data(settings, bar)
    if json:
        emit("result", **told)
        return
    place = told["folder"] or "kept for this process alone, since the cache cannot be written"
    size = f"{told['tokens']:,} tokens, {told['vocabulary']:,} symbols, {told['bytes'] / 2**20:,.1f} MiB"
    people().print(f"{told['name']}: {size}, in {duration(told['seconds'])}\n{place}", soft_wrap=True)


@data.command("clean")
def clean(json: Json = False) -> None:
    """Delete the prepared texts and tables of this machine.

    The next search on one of them prepares it again. Data sets that were downloaded stay.

    Exit codes: 0; 5 when the cache cannot be written.
    """
    from nas.api.data import clean_data
    from nas.cli.output import emit, people

    told = clean_data()
    if json:
        emit("result", **told)
    else:
        people().print(f"{told['texts']} prepared texts and tables deleted, {told['bytes'] / 2**20:,.1f} MiB")


def _row(name: str) -> dict[str, Any]:
    from nas.data.catalogue import DATASETS
    from nas.data.fetch import present

    dataset = DATASETS[name]
    path = present(dataset)
    told = {"name": name, "task": dataset.task, "size": dataset.size, "licence": dataset.licence}
    return told | {"source": dataset.origin, "path": str(path) if path else None}


class _Bar:
    """Shows a line for each thing that lasts; nothing where the output is no terminal.

    It counts bytes, or anything else in per cent.
    """

    def __init__(self, shown: bool, bytes_: bool = True) -> None:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        from nas.cli.output import people

        counted = (DownloadColumn(), TransferSpeedColumn()) if bytes_ else (TaskProgressColumn(), TimeRemainingColumn())
        columns = (TextColumn("{task.description}"), BarColumn(), *counted)
        console = people()
        self._progress = Progress(*columns, console=console, disable=not shown or not console.is_terminal)
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, file: str, here: int, size: int | None) -> None:
        if file not in self._tasks:
            self._tasks[file] = self._progress.add_task(file)
        self._progress.update(self._tasks[file], completed=here, total=size)
