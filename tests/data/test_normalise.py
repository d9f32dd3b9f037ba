"""What is published becomes one table."""

import io
import json
import tarfile
import zipfile

import pytest

from nas.data import normalise


def lines(content):
    return content.decode().splitlines()


def test_pairs_are_cleaned_counted_once_and_split_by_the_english_sentence(tmp_path):
    told = "Go.\tVa !\nGo.\tVa\u202f!\nGo.\tBouge\u00a0!\nHello\tSalut  toi\n"
    with zipfile.ZipFile(tmp_path / "fra-eng.zip", "w") as archive:
        archive.writestr("fra.txt", told)
    header, *rows = lines(normalise.tatoeba([tmp_path / "fra-eng.zip"]))
    assert header == "split\teng\tfra"
    assert [row.split("\t")[1:] for row in rows] == [["Go.", "Va !"], ["Go.", "Bouge !"], ["Hello", "Salut toi"]]
    assert rows[0].split("\t")[0] == rows[1].split("\t")[0] == normalise.split_of("Go.", 20)


def test_a_question_is_told_with_its_story_so_far_and_where_the_answer_stands(tmp_path):
    story = (
        "1 Mary went to the hall.\n2 Where is Mary? \thall\t1\n3 John took the hall lamp.\n4 Where is Mary? \thall\t1\n"
    )
    anew = "1 Eve is in the hall.\n2 Where is Eve?\thall\t1\n"
    files = [tmp_path / f"qa{task}_{part}.txt" for task, part in normalise.BABI_FILES]
    for path in files:
        path.write_text(story + anew)
    rows = [json.loads(line) for line in lines(normalise.babi(files))]
    assert len(rows) == 3 * len(files)
    first, second, third = rows[:3]
    assert (first["task"], first["split"], first["context"]) == (1, "train", "Mary went to the hall.")
    assert second["context"] == "Mary went to the hall. John took the hall lamp."
    assert third["context"] == "Eve is in the hall."
    for row in rows:
        assert row["context"][row["answer_start"] :].startswith(row["answer"])
    assert second["answer_start"] == 17


def test_tweets_are_unescaped_and_labelled_by_their_mean(tmp_path):
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        _add(archive, "hutto/tweets_GroundTruth.txt", b"1\t2.12345678\tgood &amp; fine\n2\t-0.5\tno\n3\t0.0\tso\n")
    with tarfile.open(tmp_path / "vader.tar.gz", "w:gz") as package:
        _add(package, normalise.TWEETS, inner.getvalue())
    rows = [json.loads(line) for line in lines(normalise.tweets([tmp_path / "vader.tar.gz"]))]
    assert [(row["text"], row["score"], row["label"]) for row in rows] == [
        ("good & fine", 2.1235, 1),
        ("no", -0.5, 0),
        ("so", 0.0, 0),
    ]


def test_abstracts_keep_all_their_summaries(tmp_path):
    paper = {"paper_id": "p", "title": "T", "source": ["One. ", "Two."], "target": ["short", "shorter"]}
    files = [tmp_path / f"{part}.jsonl" for part in ("train", "dev", "test")]
    for path in files:
        path.write_text(json.dumps(paper) + "\n")
    rows = [json.loads(line) for line in lines(normalise.scitldr(files))]
    assert [row["split"] for row in rows] == ["train", "valid", "test"]
    assert (rows[0]["document"], rows[0]["summary"]) == ("One. Two.", ["short", "shorter"])


@pytest.mark.parametrize("shares", [10, 20])
def test_splits_have_their_shares(shares):
    found = [normalise.split_of(f"sentence {i}", shares) for i in range(20_000)]
    assert found.count("test") == pytest.approx(20_000 / shares, rel=0.1)
    assert found.count("valid") == pytest.approx(20_000 / shares, rel=0.1)


def test_packing_repeats_exactly():
    assert normalise.pack(b"text") == normalise.pack(b"text")


def _add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
