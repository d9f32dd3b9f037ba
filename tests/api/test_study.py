"""A study and its models, as Python users hold them."""

import json
import signal

import pytest

import nas

pytestmark = pytest.mark.slow


def test_front_under_limits(study):
    every, (first, *_) = study.front(), study.front()
    bound = first.metrics["weights_mib"]
    assert all(t.metrics["weights_mib"] <= bound for t in study.front(where=[f"weights_mib<={bound}"]))
    assert study.front(where=f"weights_mib<={bound}") == study.front(where=[f"weights_mib<={bound}"])
    assert {t.number for t in every} <= {t.number for t in study.trials()}
    with pytest.raises(nas.UsageError, match="unknown metric 'weight'") as caught:
        study.front(where=["weight<=1"])
    assert caught.value.where == "where"
    with pytest.raises(nas.NothingFeasible):
        study.front(where=["weights_mib<=0"])


def test_the_frame_is_that_of_the_report(study):
    page = study.write_report()
    assert page == study.folder.parents[1] / "reports" / "exact" / "index.html"
    frame = study.to_frame()
    assert list(frame["number"]) == [t.number for t in study.trials()]
    assert list(frame.columns) == (page.parent / "trials.csv").read_text().splitlines()[0].split(",")


def test_train_generate_save_and_load(study, tmp_path):
    events = []
    model = study.train(0, steps=5, seed=1, overrides=["train.weight_decay=0.5"], observer=events.append)
    assert [e["type"] for e in events if e["type"] not in ("step", "waiting")] == ["begun", "rung", "rung", "trained"]
    assert model.folder == study.folder / "trained" / "0-s1-5-weight_decay=0.5"
    assert {"val_loss", "test_loss"} <= set(model.metrics)
    assert (model.details["trial"], model.details["steps"]) == (0, 5)
    text = model.generate("the quick", 12, temperature=0)
    assert text.startswith("the quick")
    assert len(text) == len("the quick") + 12
    again = nas.load_model(model.save(tmp_path / "kept"))
    assert again.generate("the quick", 12, temperature=0) == text
    assert (again.metrics, again.architecture) == (model.metrics, model.architecture)
    assert study.model(0).generate("the quick", 12, temperature=0) == text
    loaded = []
    study.train(0, steps=5, seed=1, overrides=["train.weight_decay=0.5"], observer=loaded.append)
    assert [e["type"] for e in loaded] == ["loaded"]


def test_an_interrupted_training_goes_on(study):
    def interrupt(event):
        if event["type"] == "step" and event["step"] == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        study.train(0, steps=4, seed=1, observer=interrupt)
    events = []
    model = study.train(0, steps=4, seed=1, observer=events.append)
    assert next(e for e in events if e["type"] == "begun")["step"] == 2
    assert model.metrics["val_loss"] == study.train(0, steps=4, seed=1, out="other").metrics["val_loss"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"device": "xla"}, "unknown device 'xla'"),
        ({"overrides": ["space.hidden=8"]}, "cannot be changed"),
    ],
)
def test_what_training_cannot_do_is_refused(study, options, told):
    study.train(0)
    with pytest.raises(nas.UsageError, match=told):
        study.train(0, **options)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"tokens": -1}, "tokens must be a whole number from 0 to"),
        ({"tokens": "10"}, "tokens must be a whole number from 0 to"),
        ({"prompt": 5}, "expected a text, got 5"),
        ({"prompt": ""}, "the prompt is empty"),
    ],
)
def test_what_cannot_be_generated_is_refused(study, arguments, told):
    with pytest.raises(nas.UsageError, match=told):
        study.train(0).generate(**({"prompt": "the"} | arguments))


def test_tokens_and_devices_that_are_not_there_are_refused(study):
    model = study.train(0)
    with pytest.raises(nas.UsageError, match="there is no token 9999"):
        model.decode([9999])
    for device in ("gpu", "cuda:99"):
        with pytest.raises(nas.UsageError, match=f"device '{device}'"):
            nas.load_model(model.folder, device)


@pytest.mark.parametrize("where", [3, [3], [None], None])
def test_limits_are_texts(study, where):
    with pytest.raises(nas.UsageError, match="expected limits as texts"):
        study.front(where=where)


def test_beams_without_a_source_are_refused(study):
    with pytest.raises(nas.UsageError, match="beams are for models with a source"):
        study.train(0).generate("the", beams=3)


def test_a_folder_of_something_else_is_not_overwritten(study, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(nas.Conflict, match="something other than a training"):
        study.train(0).save(tmp_path / "mine")


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("architecture.json", lambda data: data | {"hidden": "wide"}, "architecture.json holds no architecture"),
        ("architecture.json", lambda data: [], "architecture.json holds no architecture"),
        ("architecture.json", lambda data: data | {"hidden": 32}, "belong to another architecture"),
        ("vocabulary.json", lambda data: data | {"context": 10**12}, "context = 1000000000000"),
        ("vocabulary.json", lambda data: data | {"context": True}, "context = True"),
        ("vocabulary.json", lambda data: data | {"symbols": data["symbols"][:-1]}, "another architecture"),
        ("vocabulary.json", lambda data: data | {"symbols": ["a"] * 38}, "one stands there twice"),
        ("vocabulary.json", lambda data: data | {"head": {"kind": "tail"}}, "head.kind = 'tail'"),
        ("vocabulary.json", lambda data: data | {"coder": "subwords"}, "tokenizer is missing"),
        ("vocabulary.json", lambda data: data | {"coder": "subwords", "tokenizer": "x"}, "tokenizer:"),
        ("vocabulary.json", lambda data: None, "vocabulary.json is not what a training writes"),
        ("metrics.json", lambda data: data | {"metrics": {"val_loss": "low"}}, "metrics.val_loss = 'low'"),
        ("metrics.json", lambda data: 7, "metrics.json is not what a training writes"),
    ],
)
def test_a_damaged_model_is_told_with_place_and_value(study, name, change, told):
    folder = study.train(0).folder
    (folder / name).write_text(json.dumps(change(json.loads((folder / name).read_text()))))
    with pytest.raises(nas.DataError) as caught:
        nas.load_model(folder)
    assert told in caught.value.render()
    assert str(folder) in caught.value.where


@pytest.mark.parametrize("text", ["", "{", "\x00", "[" * 100_000, "9" * 5000])
@pytest.mark.parametrize("name", ["architecture.json", "vocabulary.json", "metrics.json", "model.safetensors"])
def test_a_file_that_is_no_json_is_told(study, name, text):
    folder = study.model(study.front()[0].number).folder
    (folder / name).write_text(text)
    with pytest.raises(nas.DataError) as caught:
        nas.load_model(folder)
    assert str(folder) in caught.value.where


def test_studies_spaces_check_and_doctor(study, file):
    assert [row["study"] for row in nas.studies()] == ["exact"]
    (row,) = nas.spaces(file.parent)
    assert (row["file"], row["task"]) == (str(file), "language_modelling")
    assert nas.check(file)["space_size"] == row["size"]
    assert "python" in {finding.name for finding in nas.doctor()}
    nas.write_starter(file.parent / "mine.toml")
    assert nas.load(file.parent / "mine.toml").name == "mine"
