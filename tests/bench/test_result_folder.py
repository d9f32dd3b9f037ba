"""The folders of benchmarks: files of others stay, whatever their names are."""

import json

import pytest

from nas.bench import attention, recall, recipes, training
from nas.bench.result_folder import claim
from nas.errors import Conflict

CLAIMS = {"attention": attention.claim, "recall": recall.claim, "training": training.claim, "recipes": recipes.claim}

WRITTEN = {name: (f"{name}.csv", f"{name}.json", f"{name}.svg") for name in CLAIMS} | {
    name: (f"{name}.json",) for name in ("training", "recipes")
}


@pytest.mark.parametrize("name", CLAIMS)
def test_files_of_others_with_the_names_of_results_are_a_conflict(tmp_path, name):
    for file in WRITTEN[name]:
        folder = tmp_path / file
        folder.mkdir()
        (folder / file).write_text("mine", encoding="utf-8")
        with pytest.raises(Conflict, match="no benchmark wrote") as caught:
            CLAIMS[name](folder)
        assert file in caught.value.detail or file in caught.value.where
        assert [(path.name, path.read_text()) for path in folder.iterdir()] == [(file, "mine")]


@pytest.mark.parametrize("name", CLAIMS)
def test_other_files_in_the_folder_stay(tmp_path, name):
    (tmp_path / ".probe").write_text("mine", encoding="utf-8")
    CLAIMS[name](tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(".probe", "mine")]


@pytest.mark.parametrize("name", CLAIMS)
def test_an_earlier_result_is_replaced(tmp_path, name):
    earlier = {"environment": {}, "settings": {}, "rows": []}
    (tmp_path / f"{name}.json").write_text(json.dumps(earlier), encoding="utf-8")
    (tmp_path / f"{name}.csv").write_text("kind", encoding="utf-8")
    CLAIMS[name](tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"settings": {}}', "[" * 500 + "]" * 500])
def test_a_damaged_file_is_told(tmp_path, content):
    (tmp_path / "settings.json").write_text(content, encoding="utf-8")
    with pytest.raises(Conflict) as caught:
        claim(tmp_path, {"settings.json": ("settings", "rows")}, ())
    assert caught.value.where == str(tmp_path / "settings.json")
