"""A study's database is made as a whole, in the study's folder or in a database that it shares with others."""

from contextlib import closing

import pytest

from nas.study import creation
from nas.study.transactions import Database
from tests.study.shared_study import OBJECTIVES

ATTRIBUTES = {"budget": 7, "settings": {"name": "a"}}


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request):
    """None stands for the folder's own."""
    if request.param == "sqlite":
        yield None
    else:
        with closing(Database(request.getfixturevalue("postgres_study").url)) as database:
            yield database


def test_a_new_study_is_found_again_by_its_place_and_name(database, tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    assert creation.open_to_write(folder, "a", OBJECTIVES, database) is None
    creation.create(folder, "a", OBJECTIVES, ATTRIBUTES, database).close()
    with closing(creation.open_to_write(folder, "a", OBJECTIVES, database)) as store:
        assert (store.attributes(), store.name) == (ATTRIBUTES, "a")
    assert (folder / "study.db").exists() == (database is None)
