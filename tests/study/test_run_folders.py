"""Where a launch keeps the files of trials: of drivers that begin a study together, all have the same place or none."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from nas.errors import Conflict, UsageError
from nas.study.run_folders import ATTRIBUTE, FolderPlace, at_first, to_run
from nas.study.store import Store
from nas.trial_files import MARK
from tests.study.shared_study import NAME, SharedStudy, begun


@pytest.fixture
def shared(tmp_path) -> FolderPlace:
    (tmp_path / "shared").mkdir()
    return FolderPlace(str(tmp_path / "shared"), "--folder")


@pytest.fixture
def new(study, tmp_path):
    """Runs `to_run` for a driver of the study, which has no trial yet."""
    with closing(Store.open(study.url, NAME)) as store:
        store.set_attribute("created", 5.0)
        yield lambda place, driver: to_run(store, tmp_path / "runs" / NAME, place, driver)


def stored(study: SharedStudy) -> object:
    with closing(Store.open(study.url, NAME)) as store:
        return store.attributes().get(ATTRIBUTE)


def test_a_driver_with_a_place_does_not_join_one_that_has_none(study, new, shared, tmp_path):
    first, second = study.driver(), study.driver()
    assert new(None, first).place == str(tmp_path / "runs" / NAME)
    with pytest.raises(Conflict) as caught:
        new(shared, second)
    assert (caught.value.code, stored(study)) == ("folder-changed", None)
    assert new(FolderPlace(shared.text, "NAS_FOLDER"), second).identity == ""
    assert list(Path(shared.text).iterdir()) == []
    first.leave()
    assert new(shared, second).place == str(Path(shared.text) / NAME)
    with pytest.raises(UsageError, match="keep their files elsewhere"):
        new(None, study.driver())


def test_all_drivers_of_a_new_study_have_the_place_of_its_creation(study, new, shared):
    first, second = study.driver(), study.driver()
    with closing(Store.open(study.url, NAME)) as store:
        for key, value in at_first(shared, NAME, 5.0).items():
            store.set_attribute(key, value)
    assert at_first(None, NAME, 5.0) == at_first(FolderPlace("", "--folder"), NAME, 5.0) == {}
    assert new(shared, second) == new(shared, first)
    begun(first, "a")
    assert new(shared, second) == new(shared, first)


def test_a_place_that_cannot_be_had_is_forgotten(study, new, shared):
    theirs = Path(shared.text) / NAME / MARK
    theirs.parent.mkdir()
    theirs.write_text(json.dumps({"study": NAME, "id": "theirs"}))
    driver = study.driver()
    with pytest.raises(Conflict, match="belongs to another study"):
        new(shared, driver)
    assert stored(study) is None
    theirs.unlink()
    assert new(shared, driver).identity
