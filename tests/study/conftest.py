"""Studies in databases of their own: SQLite files, and one PostgreSQL server for all tests of a process."""

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.study.store import Store
from tests.study import postgres
from tests.study.shared_study import NAME, OBJECTIVES, SharedStudy

TEMPLATE = "with_a_study"
_numbers = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Server]:
    with postgres.running() as server:
        yield server


@pytest.fixture(scope="session")
def _template_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with an empty study: to make Optuna's tables takes longer than a test."""
    path = tmp_path_factory.mktemp("template") / "study.db"
    Store.create(f"sqlite:///{path}", NAME, OBJECTIVES).close()
    return path


@pytest.fixture(scope="session")
def _template_database(server: postgres.Server) -> postgres.Server:
    server.execute(f"CREATE DATABASE {TEMPLATE}")
    Store.create(server.url(TEMPLATE), NAME, OBJECTIVES).close()
    return server


@pytest.fixture
def sqlite_study(_template_file: Path, tmp_path: Path) -> Iterator[SharedStudy]:
    path = tmp_path / "study.db"
    shutil.copyfile(_template_file, path)
    yield from _closed(SharedStudy(f"sqlite:///{path}"))


@pytest.fixture
def postgres_study(_template_database: postgres.Server) -> Iterator[SharedStudy]:
    server, name = _template_database, f"test_{next(_numbers)}"
    server.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    yield from _closed(SharedStudy(server.url(name)))
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def study(request: pytest.FixtureRequest) -> SharedStudy:
    """The same study on each kind of database."""
    found: SharedStudy = request.getfixturevalue("sqlite_study" if request.param == "sqlite" else "postgres_study")
    return found


def _closed(study: SharedStudy) -> Iterator[SharedStudy]:
    yield study
    study.close()
