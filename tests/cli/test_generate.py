"""`nas generate`."""

import os
import shutil
from pathlib import Path

import pytest

from nas.api.model import load_model
from nas.errors import DataError
from nas.running import driver as search
from nas.settings import study_file

pytestmark = pytest.mark.slow


@pytest.fixture
def trained(nas, runs) -> Path:
    """Trial 0, trained for a moment."""
    return Path(nas("train", "demo", 0).out.strip())


def test_prints_the_prompt_and_as_many_tokens_as_asked(nas, trained):
    ran = nas("generate", "demo", 0, "--prompt", "the ", "--tokens", 30)  # beyond the context of 8
    assert ran.code == 0
    assert ran.out.startswith("the ")
    assert len(ran.out) == len("the ") + 30 + len("\n")


def test_equal_seeds_give_equal_texts(nas, trained):
    texts = [nas("generate", "demo", 0, "--prompt", "the", "--tokens", 40, "--seed", seed).out for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_the_likeliest_token_needs_no_seed(nas, trained):
    arguments = ("generate", "demo", 0, "--prompt", "the", "--tokens", 20)
    texts = {nas(*arguments, "--temperature", 0, "--seed", seed).out for seed in (1, 2)}
    texts.add(nas(*arguments, "--top-k", 1).out)
    assert len(texts) == 1


def test_an_unknown_character_is_named(nas, trained):
    ran = nas("generate", "demo", 0, "--prompt", "thé")
    assert (ran.code, ran.out) == (2, "")
    assert "'é' is not in the vocabulary" in ran.err


@pytest.mark.parametrize(
    "options",
    [
        ("--prompt", ""),
        ("--prompt", "a", "--temperature", "-1"),
        ("--prompt", "a", "--temperature", "1e-300"),
        ("--prompt", "a", "--temperature", "nan"),
        ("--prompt", "a", "--temperature", "1e300"),
        ("--prompt", "a", "--tokens", "1000000000000"),
        ("--prompt", "a", "--beams", "3"),
        ("--prompt", "a", "--top-k", "0"),
    ],
)
def test_impossible_options(nas, trained, options):
    ran = nas("generate", "demo", 0, *options)
    assert (ran.code, ran.out) == (2, "")
    assert "error[usage]" in ran.err


def test_without_weights_it_says_how_to_get_them(nas):
    ran = nas("generate", "demo", 0, "--prompt", "the")
    assert (ran.code, ran.out) == (2, "")
    assert "help: nas train demo 0" in ran.err


def test_the_newest_training_comes_before_the_weights_of_the_search(nas, trained, runs):
    arguments = ("generate", "demo", 0, "--prompt", "the", "--tokens", 40, "--temperature", 0)
    first = nas(*arguments).out
    kept = runs / "demo" / "trials" / "0"
    shutil.move(trained, kept)
    assert nas(*arguments).out == first
    newer = Path(nas("train", "demo", 0, "--steps", 40).out.strip())
    second = nas(*arguments).out
    assert second != first
    older = Path(nas("train", "demo", 0, "--steps", 2).out.strip())
    os.utime(older / "model.safetensors", (0, 0))
    assert nas(*arguments).out == second
    shutil.rmtree(newer)
    shutil.rmtree(older)
    assert nas(*arguments).out == first


def test_unknown_trial(nas):
    assert nas("generate", "demo", 99, "--prompt", "the").code == 2


READING = """
name = "reading"
family = FAMILY
train = { steps = 40, batch = 8, rungs = [1.0], evaluation_tokens = 64 }
measure = { repeats = 1 }
objectives = [{ metric = "val_loss" }]
search = { trials = 1, sampler = "random" }
resources = { device = "cpu" }
"""
BLOCKS = 'depth = 1, hidden = 16, attention = [{ kind = "softmax" }]'
ANSWERING = 'task = { kind = "copy_spans", corpus = "CORPUS", context = 8 }\n' + (
    f'space = {{ {BLOCKS}, encoder_depth = 1, cross = [{{ kind = "additive" }}] }}\n'
)
FILLING = (
    'task = { kind = "masked_language_modelling", corpus = "CORPUS", context = 8 }\n' + f"space = {{ {BLOCKS} }}\n"
)


@pytest.mark.parametrize(
    ("family", "text", "code"), [("encoder_decoder", ANSWERING, 0), ("encoder", FILLING, 2)], ids=["answers", "reads"]
)
def test_a_source_is_answered_and_who_only_reads_says_so(nas, tmp_path, corpus, family, text, code):
    file = study_file.parse(READING.replace("FAMILY", f'"{family}"') + text.replace("CORPUS", str(corpus)))
    search.run(file, tmp_path / "reading", search.Launch("serial"))
    ran = nas("generate", tmp_path / "reading", 0, "--prompt", "fox", "--beams", 2)
    assert ran.code == code
    assert ("error[no-generation]: trial 0 is an encoder" in ran.err) == (code == 2)
    assert "<" not in ran.out


DEEP, LONG = "[" * 500 + "]" * 500, "9" * 5000
FOLDERS = {
    "architecture.json": ['{"hidden": 16}', '{"hidden": 16, "blocks": []}', f'{{"hidden": {LONG}, "blocks": []}}'],
    "vocabulary.json": [
        '{"context": 8}',
        '{"context": 131073, "symbols": ["a"]}',
        '{"context": 8, "symbols": [1, 2]}',
        '{"context": 8, "symbols": ["a", "a"]}',
        '{"context": 8, "symbols": ["a"]}',
        '{"context": 8, "coder": "subwords", "symbols": ["a"], "tokenizer": "x"}',
        '{"context": 8, "head": {"kind": "classes", "classes": ["a"]}, "symbols": ["a"]}',
    ],
    "metrics.json": ['{"metrics": {"val_loss": "low"}}', '{"metrics": 1}', '{"val_loss": null}'],
    "model.safetensors": [LONG],
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_damaged_in_any_way_is_told_with_its_file(nas, trained, name):
    path, sound = trained / name, (trained / name).read_bytes()
    odd = [text.encode() for text in ("", "{", "[]", "null", '"x"', "1", "NaN", DEEP, *FOLDERS[name])]
    odd += [b"\xff\xfe", sound[:-3], sound[: len(sound) // 2], b"\x00" * 100, b"\xff" * 8 + sound[8:]]
    for content in odd:
        path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            load_model(trained)
        assert name in caught.value.render() or str(trained) in caught.value.where, content[:100]
        assert len(caught.value.render()) < 2500
    ran = nas("generate", "demo", 0, "--prompt", "the ")
    assert (ran.code, ran.out) == (2, "")
    path.unlink()
    os.mkfifo(path)
    assert nas("generate", "demo", 0, "--prompt", "the ").code == 2
