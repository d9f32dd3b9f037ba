"""Study files: defaults in one place, a round trip, and errors that name line, value and fix."""

from pathlib import Path

import pytest

from nas.data.place import with_absolute_corpus
from nas.errors import InvalidStudyFile, NasError, UsageError
from nas.settings import study_file
from nas.toml_table import duration, line_of

FILES = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.toml"))
TINY = next(path for path in FILES if path.name == "tiny_lm.toml")
MINIMAL = """
name = "small"
[space]
depth = 2
hidden = 32
[[space.attention]]
kind = "softmax"
[[objectives]]
metric = "val_loss"
"""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_files_are_valid_and_their_resolved_form_is_the_same_study(path):
    file = study_file.load(path)
    assert study_file.parse(file.to_toml()) == file


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_files_have_a_preset_that_takes_seconds(path):
    whole, smoke = study_file.load(path), study_file.load(path, preset="smoke")
    assert smoke.name == f"{whole.name}-smoke"
    assert (smoke.search.trials, smoke.train.steps) == (2, 12)
    assert (smoke.task, smoke.space, smoke.objectives) == (whole.task, whole.space, whole.objectives)


def test_a_preset_changes_key_by_key_and_overrides_come_after_it():
    text = MINIMAL + '[presets.quick]\ntrain.steps = 7\nspace.hidden = [8, 16]\nname = "other"\n'
    file = study_file.parse(text, ["train.batch=3"], preset="quick")
    assert (file.name, file.train.steps, file.train.batch) == ("other", 7, 3)
    assert (file.space.hidden, file.space.depth) == ((8, 16), (2,))
    assert study_file.parse(text, ["train.steps=9"], preset="quick").train.steps == 9
    assert study_file.parse(text) == study_file.parse(MINIMAL)


@pytest.mark.parametrize(
    ("text", "preset", "told"),
    [
        ("[presets.quick]\ntrain.steps = 7", "quik", "no preset 'quik'"),
        ("", "quick", "no preset 'quick'"),
        ("[presets]\nquick = 3", "quick", "expected tables of what each preset changes"),
        ("[presets.quick]\ntrain.stepps = 7", "quick", "unknown key 'stepps'"),
    ],
)
def test_presets_that_cannot_be_are_told(text, preset, told):
    with pytest.raises(InvalidStudyFile, match=told):
        study_file.parse(f"{MINIMAL}\n{text}", preset=preset)


def test_what_is_wrong_in_a_preset_is_told_with_its_line():
    text = MINIMAL + "[presets.quick]\ntrain.stepps = 7\nspace.hidden = 'x'\n"
    with pytest.raises(InvalidStudyFile) as raised:
        study_file.parse(text, source="f", preset="quick")
    assert raised.value.where == f"f:{MINIMAL.count(chr(10)) + 2}  presets.quick.train.stepps"
    broken = MINIMAL.replace("depth = 2", "depht = 2") + "[presets.quick]\ntrain.steps = 7\n"
    with pytest.raises(InvalidStudyFile) as raised:
        study_file.parse(broken, source="f", preset="quick")
    assert raised.value.where == "f:4  space.depht"


def test_a_minimal_file_gets_every_default():
    file = study_file.parse(MINIMAL)
    assert (file.task.corpus, file.train.steps, file.search.trials, file.measure.batch) == ("python-docs", 200, 24, 1)
    assert [(o.metric, o.goal) for o in file.objective_list()] == [("val_loss", "min")]
    assert study_file.parse(file.to_toml()) == file


@pytest.mark.parametrize("columns", ["text", "{ text = 5 }", "[1]"])
def test_columns_are_a_table_of_names(columns):
    file = (Path(__file__).parents[2] / "search_spaces" / "sentiment.toml").read_text(encoding="utf-8")
    with pytest.raises(InvalidStudyFile, match="should be a table of names") as raised:
        study_file.parse(file, [f"task.columns={columns}"])
    assert raised.value.where.endswith("task.columns")


def test_a_prompt_of_an_encoder_is_refused():
    file = (Path(__file__).parents[2] / "search_spaces" / "sentiment.toml").read_text(encoding="utf-8")
    with pytest.raises(InvalidStudyFile, match="an encoder reads its text at once") as raised:
        study_file.parse(file, ["measure.prompt=4"])
    assert raised.value.where.endswith("measure.prompt")


def test_whoever_reads_a_source_has_the_time_of_a_whole_answer():
    file = (Path(__file__).parents[2] / "search_spaces" / "reverse_spans.toml").read_text(encoding="utf-8")
    assert study_file.parse(file, ["objectives.0.metric=generation_ms"]).objectives[0].metric == "generation_ms"
    with pytest.raises(InvalidStudyFile, match="has no 'generation_ms'"):
        study_file.parse(MINIMAL, ["objectives.0.metric=generation_ms"])


def test_the_corpus_of_later_launches_is_a_file_s_place_and_never_that_of_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("tinyshakespeare", "mine.txt"):
        (tmp_path / name).write_text("a text", encoding="utf-8")
    named, own = (study_file.parse(MINIMAL, [f"task.corpus={name}"]) for name in ("tinyshakespeare", "mine.txt"))
    assert with_absolute_corpus(named) == named
    assert with_absolute_corpus(own).task.corpus == str(tmp_path / "mine.txt")


def test_a_goal_may_be_left_to_the_metric():
    file = study_file.parse(MINIMAL, ["objectives.0.metric=val_accuracy"])
    assert file.objective_list()[0].goal == "max"


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("train.steps=100", lambda f: f.train.steps == 100),
        ("space.hidden=[16, 32]", lambda f: f.space.hidden == (16, 32)),
        ("task.corpus=some/file.txt", lambda f: f.task.corpus == "some/file.txt"),
        ("objectives.0.metric=params", lambda f: f.objectives[0].metric == "params"),
        ("train.time_limit=2m", lambda f: f.train.time_limit == 120),
        ("train.learning_rate=0.01", lambda f: f.train.learning_rate == (0.01,)),
        ('constraints=[{metric="params",max=10}]', lambda f: f.constraint_list()[0].max == 10),
    ],
)
def test_overrides(override, read):
    assert read(study_file.parse(MINIMAL, [override]))


@pytest.mark.parametrize("override", ["train.steps", "=3", "name.x=3", "objectives.7.metric=params"])
def test_overrides_that_lead_nowhere_are_usage_errors(override):
    with pytest.raises(UsageError):
        study_file.parse(MINIMAL, [override])


@pytest.mark.parametrize(
    ("text", "replacement", "message", "help"),
    [
        ("hidden = [32", "hiden = [32", "unknown key 'hiden'", "did you mean 'hidden'?"),
        ('kind = "window"', 'kind = "windw"', "unknown attention kind 'windw'", "did you mean 'window'?"),
        ("steps = 200", "stepz = 200", "unknown key 'stepz'", "did you mean 'steps'?"),
        ("window = [8", "windows = [8", "unknown key 'windows'", "did you mean 'window'?"),
        ("trials = 24", "trials = 0", "search.trials = 0: input should be greater than 0", ""),
        (
            'metric = "decode_ms_per_token"',
            'metric = "decode_ms"',
            "unknown metric 'decode_ms'",
            "did you mean 'decode_ms",
        ),
        ('metric = "decode_ms_per_token"', 'metric = "val_loss"', "metric 'val_loss' is given twice", "keep one"),
        ("heads = [1, 2, 4]\nwindow", "heads = [5]\nwindow", "heads=5 of kind 'window' fits no", "divides"),
        ('sampler = "auto"', 'sampler = "cma"', "search.sampler = 'cma': unknown value", "one of auto"),
        ("prompt = 32", "prompt = 64", "leaves nothing to decode", "at most 63"),
        ("depth = { low = 1", "depth = { low = 9", "expected { low = 1, high = 4 }", ""),
        ("depth = { low = 1, high = 4", "depth = { low = true, high = true", "expected { low = 1, high = 4 }", ""),
        ("high = 4", "high = 1_000_000_000", "at most 1,000 numbers", ""),
        ("hidden = [32", "hidden = [true", "space.hidden[0] = True: input should be a valid integer", ""),
        ("window = [8", "window = [true", "window=True: input should be a valid integer", ""),
        ("steps = 200", "steps = true", "train.steps = True: input should be a valid integer", ""),
        ("steps = 200", "steps = 1e22", "train.steps = 1e+22: input should be a valid integer", ""),
        ("steps = 200", "steps = 10_000_000_000", "input should be less than or equal to 1000000000", ""),
        ("steps = 200", "clip = true\nsteps = 200", "train.clip = True: input should be a valid number", ""),
        ("steps = 200", "weight_decay = inf\nsteps = 200", "train.weight_decay = inf: input should be a finite", ""),
        ("steps = 200", "learning_rate = nan\nsteps = 200", "train.learning_rate[0] = nan: input should be a", ""),
        ("steps = 200", "learning_rate = [0.1, inf]\nsteps = 200", "train.learning_rate[1] = inf: input", ""),
        ("steps = 200", "learning_rate = 0\nsteps = 200", "train.learning_rate[0] = 0: input should be greater", ""),
        ("max = 16", "max = nan", "constraints[0].max = nan: input should be a finite number", ""),
        ("max = 16", "max = inf", "constraints[0].max = inf: input should be a finite number", ""),
        ("seed = 0", "seed = false", "search.seed = False: input should be a valid integer", ""),
        (
            'kv_heads = [1, "half", "all"]',
            "kv_heads = 3",
            "kind 'softmax': kv_heads=3 must divide heads=1",
            "use one of 1",
        ),
        ('kv_heads = [1, "half", "all"]', 'kv_heads = "half"', "kv_heads='half' of heads=1 is not a whole", "'all'"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text, replacement, message, help):
    content = TINY.read_text(encoding="utf-8")
    line = content[: content.index(text)].count("\n") + 1
    with pytest.raises(InvalidStudyFile) as caught:
        study_file.parse(content.replace(text, replacement, 1), source="tiny.toml")
    error = caught.value
    assert message in error.message
    assert error.where.startswith(f"tiny.toml:{line}  ")
    assert help in error.help
    assert error.exit_code == 2


def test_limits_that_nothing_can_meet_are_told_with_their_line():
    content = TINY.read_text(encoding="utf-8").replace("max = 16", "max = 1\nmin = 10")
    with pytest.raises(InvalidStudyFile, match="`min` must not be above") as caught:
        study_file.parse(content, source="tiny.toml")
    line = content[: content.index("[[constraints]]")].count("\n") + 1
    assert caught.value.where == f"tiny.toml:{line}  constraints[0]"


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path):
    (tmp_path / "marked.toml").write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert study_file.load(tmp_path / "marked.toml") == study_file.parse(MINIMAL)


def test_a_baseline_that_cannot_be_built_is_told_with_its_table():
    content = TINY.read_text(encoding="utf-8").replace("heads = 4 }", "heads = 5 }")
    with pytest.raises(InvalidStudyFile, match="heads=5 must divide hidden=64") as caught:
        study_file.parse(content)
    assert "baselines[0]" in caught.value.where


@pytest.mark.parametrize("content", ["name = ", "\x00", "[space\n"])
def test_what_is_no_toml_says_where(content):
    with pytest.raises(InvalidStudyFile, match="not valid TOML"):
        study_file.parse(content)


def test_a_missing_or_unreadable_file_is_a_clear_error(tmp_path):
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for name in ("absent.toml", "binary.toml", "."):
        with pytest.raises(InvalidStudyFile):
            study_file.load(tmp_path / name)


def test_a_missing_table_is_named():
    with pytest.raises(NasError, match="'space' is missing"):
        study_file.parse('name = "x"')


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("2d", 172800), (7, 7)])
def test_durations(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0m", "-3m", "5 weeks", "m"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="duration"):
        duration(text)


def test_the_line_of_a_key_inside_a_longer_value_is_the_line_of_the_value():
    text = "a = 1\n[t]\nb = { c = 2 }\n[[l]]\nx = 1\n[[l]]\nx = 2\n"
    lines = {path: line_of(text, path) for path in ("a", "t", "t.b", "t.b.c", "l[1].x", "l[0]", "absent", "")}
    expected = {"a": 1, "t": 2, "t.b": 3, "t.b.c": 3, "l[1].x": 7, "l[0]": 4, "absent": None, "": None}
    assert lines == expected


BASIC = 'name = "a"\nobjectives = [{ metric = "METRIC" }]\n[space]\ndepth = 1\nhidden = 32\nattention = [ENTRY]\n'
SOFTMAX = '{ kind = "softmax" }'
READER = '[[baselines]]\nfamily = "encoder"\nhidden = 32\ndepth = 1\nattention = { kind = "softmax" }\n'
SOURCED = (
    '[[baselines]]\nfamily = "recurrent"\nhidden = 16\ndepth = 1\nencoder_depth = 1\ncross = { kind = "softmax" }\n'
)


@pytest.mark.parametrize(
    ("metric", "entry", "baseline", "message"),
    [
        ("val_loss", SOFTMAX, READER, "family 'encoder' cannot learn the task 'language_modelling'"),
        ("val_loss", SOFTMAX, SOURCED, "the task 'language_modelling' has no source to read"),
        ("exact_match", SOFTMAX, "", "the task 'language_modelling' has no 'exact_match'"),
        ("val_loss", '{ kind = ["softmax"] }', "", "unknown attention kind ['softmax']"),
    ],
)
def test_what_the_task_or_a_kind_cannot_be_is_refused(metric, entry, baseline, message):
    with pytest.raises(InvalidStudyFile) as caught:
        study_file.parse(BASIC.replace("METRIC", metric).replace("ENTRY", entry) + baseline)
    assert message in str(caught.value)


def test_heads_of_their_own_size_need_not_divide_the_hidden_size():
    file = study_file.parse(
        BASIC.replace("METRIC", "val_loss").replace("ENTRY", '{ kind = "softmax", heads = 3, head_size = 8 }')
    )
    assert file.spaces()["decoder"].attention[0]["heads"] == 3


OWN = BASIC.replace("METRIC", "error").replace("ENTRY", SOFTMAX)


def test_metrics_of_the_studys_own_are_objectives_and_limits_with_what_the_file_says_of_them():
    tables = (
        '[metrics.error]\ngoal = "max"\nunit = "%"\n[metrics.milliseconds]\ngoal = "min"\ncheap = true\nexact = true\n'
    )
    file = study_file.parse(f'{OWN}{tables}[[constraints]]\nmetric = "milliseconds"\nmax = 3\n')
    (objective,), (limit,) = file.objective_list(), file.constraint_list()
    assert (objective.goal, objective.label, objective.means.cheap) == ("max", "error (%)", False)
    assert (limit.means.cheap, limit.means.exact) == (True, True)
    assert study_file.parse(file.to_toml()) == file
    assert "metrics" not in study_file.parse(MINIMAL).resolved()


@pytest.mark.parametrize(
    ("table", "message", "help"),
    [
        ("[metrics.val_loss]\ngoal = 'max'", "'val_loss' is built in and cannot be declared again", "another name"),
        ("[metrics.error_p90]\ngoal = 'max'", "names that end in _p90 hold readings of another metric", "another name"),
        ("[metrics.contended]\ngoal = 'max'", "'contended' is reserved", "another name"),
        ("[metrics.error]\ngaol = 'max'", "unknown key 'gaol'", "did you mean 'goal'?"),
        ("[metrics.error]\nunit = 'ms'", "'metrics.error.goal' is missing", ""),
        ("[metrics.no-name]\ngoal = 'max'", "a metric's name is letters, digits and '_'", ""),
        ("[metrics.eror]\ngoal = 'max'", "unknown metric 'error'", "did you mean 'eror'?"),
    ],
)
def test_metrics_that_cannot_be_declared_so_are_refused_with_the_place(table, message, help):
    with pytest.raises(InvalidStudyFile) as caught:
        study_file.parse(f"{OWN}{table}\n", source="own.toml")
    assert message in caught.value.message
    assert caught.value.where.startswith("own.toml:")
    assert help in caught.value.help


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objectives=[]", "objectives = []: expected at least 1, got 0"),
        ("train=3", "train = 3: expected a table"),
        ("objectives=3", "objectives = 3: expected a list"),
        ("objectives=[3]", "objectives[0] = 3: expected a table"),
    ],
)
def test_errors_speak_of_tables_and_lists(override, message):
    with pytest.raises(InvalidStudyFile) as told:
        study_file.parse(MINIMAL, [override])
    assert told.value.message == message
