"""Questions about stories: spans found, cut off and scored; floors as others told them."""

import json
import os

import pytest
import torch

from nas.architecture import Architecture
from nas.errors import DataError
from nas.settings.study_settings import TrainSettings
from nas.settings.task_settings import TableTask
from nas.tasks import model_of, open_task
from nas.tasks.mentions import Candidates
from nas.tasks.question_answering import LONGEST_ANSWER, best_spans
from nas.training.trainer import Trainer

PLACES = ("hall", "garden", "kitchen", "office room")
PEOPLE = ("Mary", "John", "Eve", "Paul")


def draw(generator, count):
    return int(torch.randint(count, (1,), generator=generator))


@pytest.fixture
def corpus(tmp_path):
    """Three of four people went somewhere, and one of them is asked for."""
    generator, lines = torch.Generator().manual_seed(0), []
    for number in range(1500):
        who = torch.randperm(4, generator=generator)[:3].tolist()
        told = [(PEOPLE[person], PLACES[draw(generator, 4)]) for person in who]
        story, start = f"Story {number}.", {}
        for person, place in told:
            start[person] = (len(story) + len(f" {person} went to the "), place)
            story += f" {person} went to the {place}."
        person = told[draw(generator, len(told))][0]
        row = {"context": story, "question": f"Where is {person}?", "answer": start[person][1]}
        lines.append(row | {"answer_start": start[person][0], "task": 1 + number % 2})
    path = tmp_path / "stories.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return str(path)


def settings(corpus, **keys):
    return TableTask(**{"kind": "question_answering", "corpus": corpus, "context": 64, "subwords": 400, **keys})


def encoder(hidden=32, depth=2):
    block = {"attention": {"kind": "softmax", "heads": 2}, "position": "rope"}
    return Architecture.model_validate({"family": "encoder", "hidden": hidden, "blocks": [block] * depth})


class Knows(torch.nn.Module):
    """Points at the answers that it was told."""

    def __init__(self, answers_B2, certain=50.0):
        super().__init__()
        self.answers_B2, self.certain = list(answers_B2), certain

    def forward(self, tokens_BT, padding_BT):
        logits_B2T = torch.zeros(len(tokens_BT), 2, tokens_BT.size(1))
        for logits_2T in logits_B2T:
            for end, place in enumerate(self.answers_B2.pop(0)):
                logits_2T[end, place] = self.certain
        return logits_B2T


def test_the_span_of_tokens_is_the_answer(corpus):
    task = open_task(settings(corpus))
    for question in task.questions["train"]:
        assert task._text(question, *question.answer) == question.answers[0]
        assert task.coder.decode(question.tokens[: question.answer[0]]).startswith("Where is")


def test_whoever_knows_the_places_scores_one(corpus):
    task = open_task(settings(corpus))
    known = [question.answer for question in sorted(task.questions["val"], key=lambda q: len(q.tokens))]
    told = task.evaluate(Knows(known), "val", max_tokens=10**6)
    assert told["val_loss"] == pytest.approx(0, abs=1e-6)
    assert told["val_accuracy"] == told["exact_match"] == told["f1"] == 1
    assert told["exact_match:1"] == told["exact_match:2"] == 1


def test_answers_longer_than_usual_are_told_whole(tmp_path):
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    path = tmp_path / "long.jsonl"
    lines = [
        {"context": f"{n}: {' '.join(words)}.", "question": "Which?", "answer": " ".join(words)} for n in range(90)
    ]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    task = open_task(settings(str(path), subwords=260))
    assert task.longest > LONGEST_ANSWER
    known = [question.answer for question in sorted(task.questions["val"], key=lambda q: len(q.tokens))]
    assert task.evaluate(Knows(known), "val", max_tokens=10**6)["exact_match"] == 1


def test_a_question_that_is_cut_off_is_counted(tmp_path):
    path = tmp_path / "asked.jsonl"
    lines = [{"context": f"In {n}.", "question": "Where " * (40 * (n % 2) + 1), "answer": str(n)} for n in range(90)]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    task = open_task(settings(str(path)))
    assert sum(task.too_long.values()) == sum(int(q.answers[0]) % 2 for asked in task.questions.values() for q in asked)
    assert sum(task.cut_off.values()) == 0


def test_answers_that_no_span_tells_are_counted(tmp_path):
    path = tmp_path / "within.jsonl"
    asked = {"question": "What?", "answer": "snow"}
    lines = [asked | {"context": f"{n}: snowball."} for n in range(90)]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    task = open_task(settings(str(path)))
    assert task.describe()["answers_within_subwords"] == {split: len(asked) for split, asked in task.questions.items()}


def test_where_all_that_is_evaluated_is_cut_off_that_is_told(tmp_path):
    path = tmp_path / "cut.jsonl"
    asked = {"question": "?", "answer": "hall"}
    lines = [asked | {"context": f"hall {n}" + " and so on" * 30, "split": "val"} for n in range(30)]
    lines += [asked | {"context": f"hall {split}.", "split": split} for split in ("train", "val", "test")]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    task = open_task(settings(str(path), context=16))
    with pytest.raises(DataError, match="questions of the val split that are evaluated have lost all answers"):
        task.evaluate(Knows([(0, 0)] * 99), "val", max_tokens=100)


def test_whoever_guesses_has_the_loss_of_guessing(corpus):
    task = open_task(settings(corpus))
    told = task.evaluate(Knows([(0, 0)] * 1000, certain=0.0), "test", max_tokens=10**6)
    assert told["test_loss"] == pytest.approx(task.guessing, rel=0.1)
    assert "test_exact_match:1" in told


@pytest.mark.slow
def test_an_encoder_learns_to_find_people(corpus):
    task = open_task(settings(corpus))
    training = TrainSettings(steps=300, batch=32, rungs=(1.0,))
    trained = Trainer(encoder(), task, training, seed=1).run_to_next_rung().metrics
    assert trained["exact_match"] > task.floors("val")["last candidate"]["exact_match"] + 0.2


def test_scores_are_in_the_order_of_the_questions(corpus):
    task = open_task(settings(corpus))
    torch.manual_seed(0)
    model = model_of(encoder(), task)
    torch.nn.init.normal_(model.ends.weight)
    whole = task.examine(model, "val", 10**6)
    alone = []
    for question in task.questions["val"]:
        task.questions["val"], task.lengths_of["val"] = [question], torch.tensor([len(question.tokens)])
        alone.append(task.examine(model, "val", 10**6).metrics["exact_match"])
    assert whole.scores["exact_match"] == alone


def test_the_largest_batch_is_of_the_longest(corpus):
    task, generator = open_task(settings(corpus)), torch.Generator().manual_seed(0)
    (tokens_BT, padding_BT), _ = task.largest(8)
    assert len(tokens_BT) == 8
    assert (~padding_BT).sum() >= max((~task.batch(generator, 8)[0][1]).sum() for _ in range(50))


def test_a_long_story_loses_its_beginning_and_is_counted(corpus):
    task = open_task(settings(corpus, context=20))
    cut, too_long = task.describe()["answers_cut_off"], task.describe()["too_long"]
    assert all(cut[split] <= too_long[split] <= len(asked) for split, asked in task.questions.items())
    assert cut["train"] > 0
    assert len(task.trained) == len(task.questions["train"]) - cut["train"]
    for question in task.questions["train"]:
        assert len(question.tokens) <= 20
        if question.answer:
            assert task._text(question, *question.answer) == question.answers[0]
    known = [q.answer or (19, 19) for q in sorted(task.questions["test"], key=lambda q: len(q.tokens))]
    told = task.evaluate(Knows(known), "test", max_tokens=10**6)
    assert told["test_exact_match"] <= 1 - cut["test"] / len(task.questions["test"])


def test_an_answer_that_is_cut_off_counts_as_wrong_even_where_its_word_is_left(tmp_path):
    long = "It is red. " + "Nobody knows what else there is to say. " * 4 + "Is it red?"
    rows = [
        {"context": f"A {split} story. {story}", "question": "What?", "answer": "red", "split": split}
        for split in ("train", "valid", "test")
        for story in (long, "It is red.")
    ]
    path = tmp_path / "cut.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    task = open_task(settings(str(path), context=16, subwords=300))
    assert task.describe()["answers_cut_off"] == {"train": 1, "val": 1, "test": 1}
    asked = sorted(task.questions["val"], key=lambda question: len(question.tokens))
    told = [question.answer or [len(question.tokens) - 2] * 2 for question in asked]
    assert [task._text(question, *span) for question, span in zip(asked, told, strict=True)] == ["red", "red"]
    metrics = task.evaluate(Knows(told), "val", max_tokens=10**6)
    assert (metrics["val_accuracy"], metrics["exact_match"], metrics["f1"]) == (0.5, 0.5, 0.5)
    assert metrics["val_loss"] == pytest.approx(0, abs=1e-6)


def test_a_context_that_leaves_no_answer_is_refused(corpus):
    with pytest.raises(DataError, match="have lost all answers at a context of 2 tokens") as caught:
        open_task(settings(corpus, context=2))
    assert caught.value.where == "task.context"


def test_floors_are_of_the_examples_that_are_evaluated(corpus):
    task = open_task(settings(corpus))
    asked = [task.questions["val"][number] for numbers in task._evaluated("val", 500) for number in numbers]
    assert 0 < len(asked) < len(task.questions["val"])
    told = [Candidates(PLACES).last_in(question.story) for question in asked]
    right = [told == question.answers[0] for told, question in zip(told, asked, strict=True)]
    assert task.floors("val", 500)["last candidate"]["exact_match"] == pytest.approx(sum(right) / len(right))


def test_padding_changes_no_result(corpus):
    task = open_task(settings(corpus))
    torch.manual_seed(0)
    model = model_of(encoder(), task).eval()
    torch.nn.init.normal_(model.ends.weight)
    inputs, _ = task.batch(torch.Generator().manual_seed(0), 8)
    with torch.inference_mode():
        together_B2T = task._logits(model, inputs)
        for tokens, padding, logits_2T in zip(*inputs, together_B2T, strict=True):
            alone_12T = task._logits(model, (tokens[~padding][None], padding[~padding][None]))
            torch.testing.assert_close(logits_2T[:, ~padding], alone_12T[0], rtol=1e-4, atol=1e-5)
            assert torch.isinf(logits_2T[:, padding]).all()


@pytest.mark.parametrize("longest", [1, 16, 20])
def test_the_best_span_is_in_order_and_short(longest):
    generator = torch.Generator().manual_seed(0)
    logits_B2T = torch.randn(20, 2, 30, generator=generator)
    for logits_2T, found in zip(logits_B2T, best_spans(logits_B2T, longest).tolist(), strict=True):
        every = [(i, j) for i in range(30) for j in range(i, min(30, i + longest))]
        assert tuple(found) == max(every, key=lambda span: float(logits_2T[0, span[0]] + logits_2T[1, span[1]]))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"answer": "attic"}, "the answer 'attic' is not in the context"),
        ({"answer_start": 3}, "the answer 'hall' does not stand at answer_start = 3"),
        ({"answer": []}, "answer holds no text"),
    ],
)
def test_an_answer_that_is_not_there_is_told_with_its_row(tmp_path, row, told):
    sound = {"context": "Mary is in the hall.", "question": "Where?", "answer": "hall"}
    path = tmp_path / "a.jsonl"
    names = ("train", "val", "test")
    parts = [{**sound, "context": f"{name}. {sound['context']}", "split": name} for name in names]
    path.write_text("\n".join(map(json.dumps, [parts[0], {**sound, **row, "split": "train"}, *parts[1:]])))
    with pytest.raises(DataError, match="line 2") as caught:
        open_task(settings(str(path)))
    assert told in caught.value.message


@pytest.mark.skipif("NAS_DATA_DIR" not in os.environ, reason="NAS_DATA_DIR names no folder with bAbI")
def test_babi_and_its_floors():
    """SOURCES of the extractive bAbI tell these for the last candidate, over all 2,000 questions of a task."""
    task = open_task(TableTask(kind="question_answering", context=128))
    floors = task.floors("test")["last candidate"]
    published = {1: 0.53, 2: 0.40, 3: 0.14, 4: 0.13, 5: 0.24, 11: 0.75, 12: 0.77, 13: 0.94, 14: 0.25, 16: 0.50}
    assert {n: floors[f"exact_match:{n}"] for n in published} == pytest.approx(published, abs=0.04)
