"""Tables are read, checked and split; what is wrong with one is told with its row, its column and its cure."""

import gzip
import json
import os
from dataclasses import replace
from itertools import chain

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nas.data import rows, table_source
from nas.data.rows import Column
from nas.errors import DataError

TWEETS = (Column("text", "text"), Column("label", "label"))
SUMMARIES = (Column("document", "text"), Column("summary", "texts"))
QUESTIONS = (Column("context", "text"), Column("answer_start", "count"), Column("task", "label", required=False))


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def refused(corpus, columns=TWEETS, names=None):
    with pytest.raises(DataError) as caught:
        table_source.load(corpus, columns, names or {})
    assert caught.value.exit_code == 2
    assert caught.value.help
    return caught.value


FORMS = {
    "tweets.csv": 'text,label,more\r\n"fine, really ""so""",1,x\r\nno,0,y\r\n',
    "tweets.tsv": 'text\tlabel\nfine, really "so"\t1\nno\t0\n',
    "tweets.jsonl": '{"text": "fine, really \\"so\\"", "label": 1}\n\n{"text": "no", "label": "0"}\n',
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_rows(tmp_path, name, packed):
    content = FORMS[name].encode()
    path = write(tmp_path, name + ".gz" * packed, gzip.compress(content) if packed else content)
    table = table_source.load(path, TWEETS, {})
    assert table.rows == ({"text": 'fine, really "so"', "label": "1"}, {"text": "no", "label": "0"})
    assert len(table.sha256) == 64


def test_parquet_gives_them_too(tmp_path):
    frame = pd.DataFrame({"tweet": ["fine", "no"], "label": [1, 0], "split": ["train", "test"]})
    frame.to_parquet(tmp_path / "tweets.parquet")
    table = table_source.load(str(tmp_path / "tweets.parquet"), TWEETS, {"text": "tweet"})
    assert table.rows[0] == {"text": "fine", "label": "1", "split": "train"}
    assert table.places == ("row 1", "row 2")


def test_a_data_set_of_hugging_face_saved_to_disk(tmp_path):
    datasets = pytest.importorskip("datasets", reason="pip install 'nas[hf]'")
    names = ("train", "validation", "unsupervised")
    parts = {part: datasets.Dataset.from_dict({"text": [part], "label": [1]}) for part in names}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    table = table_source.load(f"hf:{tmp_path / 'saved'}", TWEETS, {})
    assert [row["split"] for row in table.rows] == ["train", "validation"]
    assert table.places == ("train row 1", "validation row 1")


@pytest.mark.parametrize("parts", [("train",), ("train", "validation"), ("train", "test")])
def test_what_published_parts_lack_is_taken_from_training(tmp_path, parts):
    datasets = pytest.importorskip("datasets", reason="pip install 'nas[hf]'")
    texts = {part: [f"{part} {number}" for number in range(100)] for part in parts}
    made = {part: datasets.Dataset.from_dict({"text": texts[part], "label": [1] * 100}) for part in parts}
    datasets.DatasetDict(made).save_to_disk(tmp_path / "saved")
    table = table_source.load(f"hf:{tmp_path / 'saved'}", TWEETS, {})
    found = {name: [table.rows[n]["text"] for n in numbers] for name, numbers in rows.split(table, "text").items()}
    assert sorted(chain.from_iterable(found.values())) == sorted(chain.from_iterable(texts.values()))
    for part, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        if part in parts and part != "train":
            assert found[name] == texts[part]
        else:
            assert found[name]
            assert all(text.startswith("train") for text in found[name])


def test_several_summaries_or_one(tmp_path):
    told = [{"document": "d", "summary": "one"}, {"document": "d", "summary": ["one", "two"]}]
    path = write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, told)))
    assert [row["summary"] for row in table_source.load(path, SUMMARIES, {}).rows] == [["one"], ["one", "two"]]


def test_what_is_optional_may_be_absent(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"context": "c", "answer_start": 0}')
    assert table_source.load(path, QUESTIONS, {}).rows == ({"context": "c", "answer_start": 0},)


def test_an_optional_cell_may_be_left_empty(tmp_path):
    path = write(tmp_path, "a.csv", "context,answer_start,task,split\nc,0,,\nd,1,2,\n")
    told = table_source.load(path, QUESTIONS, {}).rows
    assert told == ({"context": "c", "answer_start": 0}, {"context": "d", "answer_start": 1, "task": "2"})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text,label,split\na,1,train\nb,1,\n"),
        ("a.jsonl", '{"text": "a", "label": 1, "split": "train"}\n{"text": "b", "label": 1}\n'),
    ],
)
def test_all_rows_say_what_they_are_for_or_none(tmp_path, name, content):
    path = write(tmp_path, name, content)
    line = 3 if name == "a.csv" else 2
    assert refused(path).message == f"a row cannot be used: line {line}: split is missing"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"text": "  ", "label": 1}', "line 2: text is empty"),
        ('{"text": 7, "label": 1}', "line 2: text is not text: 7"),
        ('{"label": 1}', "line 2: text is missing"),
        ('{"text": "cut \\ud83d", "label": 1}', "line 2: text holds half a character"),
        ('{"text": "a", "label": "\\ud83d"}', "line 2: label is neither a word nor a whole number"),
        ('{"text": "a\\u0000", "label": 1}', "line 2: text holds a zero byte"),
        (json.dumps({"text": list(range(999)), "label": 1}), "line 2: text is not text: [0, 1, 2"),
        ('{"text": "a", "label": null}', "line 2: label is missing"),
        ('{"text": "a", "label": 1.5}', "line 2: label is neither a word nor a whole number: 1.5"),
    ],
)
def test_a_value_that_cannot_be_used_is_told_with_its_place(tmp_path, line, told):
    path = write(tmp_path, "a.jsonl", f'{{"text": "a", "label": 1}}\n{line}\n')
    error = refused(path)
    assert (error.code, error.where) == ("bad-row", path)
    assert told in error.message


@pytest.mark.parametrize("told", [["one", " "], ["one", "cut \ud83d"], [1]])
def test_a_list_of_texts_holds_texts(tmp_path, told):
    path = write(tmp_path, "a.jsonl", json.dumps({"document": "d", "summary": told}))
    assert "line 1: summary holds something that is not text, or an empty text" in refused(path, SUMMARIES).message


def test_a_wrong_value_is_shown_in_short(tmp_path):
    path = write(tmp_path, "a.jsonl", json.dumps({"text": list(range(999)), "label": 1}))
    assert len(refused(path).message) < 200


def test_many_wrong_rows_are_counted(tmp_path):
    path = write(tmp_path, "a.csv", "text,label\n" + ",1\n" * 40)
    error = refused(path)
    assert error.message == "40 rows cannot be used, the first: line 2: text is empty"
    assert error.detail.splitlines()[0] == "line 3: text is empty"
    assert error.detail.splitlines()[-1] == "and 35 more"


def test_a_row_with_two_wrong_values_is_one(tmp_path):
    error = refused(write(tmp_path, "a.jsonl", '{"text": "", "label": null}'))
    assert error.message == "a row cannot be used: line 1: text is empty"
    assert error.detail == "line 1: label is missing"


def test_columns_that_are_not_read_may_hold_anything(tmp_path):
    far = pa.array([2**60], pa.timestamp("ms"))
    pq.write_table(pa.table({"text": ["a"], "label": [1], "when": far}), tmp_path / "a.parquet")
    assert table_source.load(str(tmp_path / "a.parquet"), TWEETS, {}).rows == ({"text": "a", "label": "1"},)
    assert "text, label, when" in refused(str(tmp_path / "a.parquet"), SUMMARIES).detail


def test_a_column_that_is_read_and_cannot_be_is_told(tmp_path):
    pq.write_table(pa.table({"text": pa.array([2**60], pa.timestamp("ms")), "label": [1]}), tmp_path / "a.parquet")
    assert refused(str(tmp_path / "a.parquet")).message == "the Parquet file cannot be read"


@pytest.mark.parametrize("line", ['{"text": "a", "label": ' + "9" * 5000 + "}", "[" * 100_000])
def test_json_that_python_cannot_read_is_told_with_its_line(tmp_path, line):
    error = refused(write(tmp_path, "a.jsonl", '{"text": "a", "label": 1}\n' + line))
    assert error.where.endswith("line 2")
    assert error.message.startswith("a line cannot be read: ")


def test_parts_of_hugging_face_without_a_use_are_named(tmp_path):
    datasets = pytest.importorskip("datasets", reason="pip install 'nas[hf]'")
    part = datasets.Dataset.from_dict({"text": ["a"], "label": [1]})
    datasets.DatasetDict({"unsupervised": part}).save_to_disk(tmp_path / "saved")
    assert refused(f"hf:{tmp_path / 'saved'}").detail == "parts: unsupervised"
    datasets.DatasetDict({"Train": part}).save_to_disk(tmp_path / "named")
    assert "text, label" in refused(f"hf:{tmp_path / 'named'}", SUMMARIES).detail
    assert table_source.load(f"hf:{tmp_path / 'named'}", TWEETS, {}).rows[0]["split"] == "Train"


def test_a_user_that_there_is_not_and_a_pipe_are_told(tmp_path):
    assert refused("~nobody-here/a.csv").message == "'~nobody-here/a.csv' names no folder"
    os.mkfifo(tmp_path / "a.csv")
    assert refused(str(tmp_path / "a.csv")).detail == "it is not an ordinary file"
    assert refused("a\0b.csv").code == "corpus-unreadable"


def test_a_count_is_a_whole_number(tmp_path):
    path = write(tmp_path, "a.csv", "context,answer_start\nc,-1\n")
    assert "answer_start is not a whole number: '-1'" in refused(path, QUESTIONS).message


def test_a_missing_column_is_told_the_nearest(tmp_path):
    path = write(tmp_path, "a.csv", "txt,label\na,1\n")
    error = refused(path)
    assert (error.code, error.message) == ("missing-column", "no column 'text'")
    assert "txt, label" in error.detail
    assert "did you mean 'txt'" in error.help
    assert "task.columns" in error.help
    assert table_source.load(path, TWEETS, {"text": "txt"}).rows == ({"text": "a", "label": "1"},)


def test_a_column_that_the_task_does_not_read_is_refused(tmp_path):
    path = write(tmp_path, "a.csv", "text,label\na,1\n")
    error = refused(path, names={"txt": "text"})
    assert (error.code, error.where) == ("unknown-column", "task.columns.txt")


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        ("a.csv", b"text,label\nok,1\n\xff\xfe,0\n", "line 3"),
        ("a.csv", b"text,label\nok,1\nno\n", "line 3"),
        ("a.csv", b"\xef\xbb\xbftext,label\nok,1\nb\xff,0\n", "line 3"),
        ("a.csv", b'text,label\n"open,1\n', "line 2"),
        ("a.csv", b'text,label\n"a\nb",1\n"open,1\nc,1\n', "line 4"),
        ("a.csv", b'text,label\na,1\n"b\nb"\nc,1\n', "line 3"),
        ("a.csv", b"text,label,text\na,1,b\n", "line 1"),
        ("a.tsv", b"text\tlabel\nok\t1\t2\n", "line 2"),
        ("a.jsonl", b'{"text": "a", "label": 1}\n[1]\n', "line 2"),
        ("a.jsonl", b'{"text": "a"\n', "line 1"),
        ("a.parquet", b"PAR1 and no more", "a.parquet"),
    ],
)
def test_a_table_that_cannot_be_read_is_told_with_its_line(tmp_path, name, content, where):
    path = write(tmp_path, name, content)
    assert where in refused(path).where


def test_a_mark_at_the_front_is_no_part_of_the_text_but_of_the_place(tmp_path):
    path = write(tmp_path, "a.csv", b"\xef\xbb\xbftext,label\nok,1\n")
    assert table_source.load(path, TWEETS, {}).rows == ({"text": "ok", "label": "1"},)
    assert "byte 20 is 0xff" in refused(write(tmp_path, "b.csv", b"\xef\xbb\xbftext,label\nok,1\nb\xff,0\n")).detail


def test_a_row_is_where_it_begins(tmp_path):
    path = write(tmp_path, "a.csv", 'text,label\n"a\nb",1\n\nc,1\n')
    assert table_source.load(path, TWEETS, {}).places == ("line 2", "line 5")


def test_parquet_that_holds_no_text_is_told(tmp_path):
    binary = pa.array([b"ok", b"\xff\xfe"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 2, binary.buffers())
    pq.write_table(pa.table({"text": text, "label": [1, 2]}), tmp_path / "a.parquet")
    assert "not UTF-8" in refused(str(tmp_path / "a.parquet")).message


def test_an_empty_table_is_refused(tmp_path):
    assert refused(write(tmp_path, "a.csv", "text,label\n")).code == "corpus-empty"


def test_another_ending_and_a_missing_file_are_told(tmp_path):
    for name in (write(tmp_path, "a.xlsx", "x"), write(tmp_path, "a.csv.zip", "x"), "", ".", "tinyshakespeare"):
        assert refused(name).code == "corpus-format"
    write(tmp_path, "tweets.csv", "text,label\na,1\n")
    error = refused(str(tmp_path / "tweet.csv"))
    assert error.code == "corpus-missing"
    assert "did you mean" in error.help


def table_of(tmp_path, splits):
    lines = [f'{{"text": "t{i}", "label": 1, "split": "{split}"}}' for i, split in enumerate(splits)]
    return table_source.load(write(tmp_path, "a.jsonl", "\n".join(lines)), TWEETS, {})


def test_the_splits_follow_the_column(tmp_path):
    found = rows.split(table_of(tmp_path, ["train", "dev", "TEST", "valid", "validation"]), "text")
    assert found == {"train": [0], "val": [1, 3, 4], "test": [2]}


def test_an_unknown_split_is_told_with_its_row(tmp_path):
    with pytest.raises(DataError) as caught:
        rows.split(table_of(tmp_path, ["train", "dev", "held"]), "text")
    assert "line 3" in caught.value.where
    assert "held" in caught.value.message


def test_a_split_without_rows_is_told(tmp_path):
    with pytest.raises(DataError) as caught:
        rows.split(table_of(tmp_path, ["val", "test", "val"]), "text")
    assert caught.value.message == "the table leaves no rows for train"
    assert "3 rows: 0 for 'train', 2 for 'val', 1 for 'test'" in caught.value.detail


@pytest.mark.parametrize(("given", "drawn"), [("test", "val"), ("val", "test")])
def test_where_none_validates_or_tests_a_tenth_of_the_training_rows_does(tmp_path, given, drawn):
    found = rows.split(table_of(tmp_path, ["train"] * 200 + [given] * 20), "text")
    assert 8 <= len(found[drawn]) <= 35
    assert len(found["train"]) + len(found[drawn]) == 200
    assert len(found[given]) == 20


def test_rows_that_are_all_for_training_are_split_as_without_a_column(tmp_path):
    named = table_of(tmp_path, ["train"] * 200)
    unnamed = replace(named, rows=tuple({"text": row["text"], "label": row["label"]} for row in named.rows))
    assert rows.split(named, "text") == rows.split(unnamed, "text")


def test_what_is_tested_is_not_trained_on(tmp_path):
    told = [("a", "train"), ("a", "test"), ("b", "train"), ("b", "val"), ("b", "val"), ("c", "train"), ("c", "train")]
    lines = [json.dumps({"text": text, "label": 1, "split": split}) for text, split in told]
    table = table_source.load(write(tmp_path, "a.jsonl", "\n".join(lines)), TWEETS, {})
    assert rows.split(table, "text") == {"train": [5, 6], "val": [3, 4], "test": [1]}


def test_without_a_column_equal_keys_never_part(tmp_path):
    lines = [json.dumps({"text": f"t{i % 50}", "label": i}) for i in range(200)]
    table = table_source.load(write(tmp_path, "a.jsonl", "\n".join(lines)), TWEETS, {})
    found = rows.split(table, "text")
    texts = {name: {table.rows[i]["text"] for i in numbers} for name, numbers in found.items()}
    assert sorted(i for numbers in found.values() for i in numbers) == list(range(200))
    assert sum(map(len, texts.values())) == len(set.union(*texts.values()))


@pytest.mark.skipif("NAS_DATA_DIR" not in os.environ, reason="NAS_DATA_DIR names no folder with data sets")
@pytest.mark.parametrize(("name", "key"), [("tatoeba-eng-fra", "source"), ("tweets", "text"), ("scitldr", "document")])
def test_no_example_of_the_known_data_sets_stands_in_two_splits(name, key):
    column = {"source": (Column("source", "text"), Column("target", "text")), "text": TWEETS}.get(key, SUMMARIES)
    table = table_source.load(name, column, {})
    found = rows.split(table, key)
    keys = {split: {table.rows[i][key] for i in numbers} for split, numbers in found.items()}
    assert len(table.rows) - sum(map(len, found.values())) == {"scitldr": 4}.get(name, 0)
    assert sum(map(len, keys.values())) == len(set.union(*keys.values()))
