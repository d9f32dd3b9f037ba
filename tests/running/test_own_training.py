"""A training of one's own through the driver: results, failures, interruption, resume, and what is refused."""

import math
from pathlib import Path

import pytest

from nas.body import Finished, Job, Measured, Reached
from nas.errors import Conflict, InvalidStudyFile, UsageError
from nas.results import State
from nas.running import driver
from nas.running.budget import End
from nas.settings import study_file
from nas.study import open_study
from tests.own_study import METRICS

pytestmark = pytest.mark.slow
TEXT = (
    """
name = "own"
[space.parameters]
x = { low = 0.0, high = 1.0 }
width = { low = 1, high = 64, log = true }
shape = ["round", "flat"]
fixed = 7
"""
    + METRICS
    + """
[[constraints]]
metric = "size"
max = 60
[train]
steps = 8
[search]
trials = 12
"""
)
SERIAL = driver.Launch(executor="serial")


def file(*overrides: str, text: str = TEXT):
    return study_file.parse(text, overrides)


def formula(job: Job):
    """A closed-form training: a curve that falls to where the parameters say."""
    x, width, shape = job.parameters["x"], job.parameters["width"], job.parameters["shape"]
    yield Measured({"size": float(width)})
    for step in job.rungs:
        yield Reached(step, {"error": end(x, width, shape) + 1 / step})
    yield Finished({"error": end(x, width, shape) + 1 / job.steps, "accuracy": 1 - x})


def end(x: float, width: int, shape: str) -> float:
    return (x - 0.3) ** 2 + 1 / width + (shape == "flat")


def run(folder: Path, body=formula, launch: driver.Launch = SERIAL, **kinds):
    return driver.run(kinds.pop("study", file()), folder, launch, body=body)


@pytest.mark.parametrize("sampler", ["pareto", "tpe", "gp", "nsga2", "random"])
def test_every_sampler_searches_parameters(tmp_path, sampler):
    outcome = run(tmp_path / "own", study=file(f"search.sampler={sampler}"))
    record = outcome.study.record()
    assert (outcome.end, record.trained_count()) == (End.BUDGET, 12)
    trained = [trial for trial in record.trials if trial.state is State.COMPLETE]
    for trial in trained:
        assert trial.parameters["fixed"] == 7
        assert trial.metrics["size"] == trial.parameters["width"] <= 60
        assert trial.metrics["error"] == pytest.approx(
            end(*(trial.parameters[name] for name in ("x", "width", "shape"))) + 1 / 8
        )
    assert len({trial.architecture_id for trial in record.trials}) == len(record.trials)
    assert all(trial.reason == "infeasible:size" for trial in record.trials if trial.parameters["width"] > 60)


def test_rungs_are_told_in_order_and_their_seconds_grow(tmp_path):
    record = run(tmp_path / "own", study=file("search.stopping=false", "search.skip=false")).study.record()
    complete = [trial for trial in record.trials if trial.state is State.COMPLETE]
    assert len(complete) == 12
    for trial in complete:
        assert [rung.step for rung in trial.rungs] == [2, 4, 8]
        assert [rung.seconds for rung in trial.rungs] == sorted(rung.seconds for rung in trial.rungs)
        assert trial.metrics["accuracy"] == 1 - trial.parameters["x"]  # beside those that the file declares


def test_no_trial_is_stopped_at_its_last_rung_where_nothing_is_left_to_save(tmp_path):
    study = file("search.trials=40", "search.sampler=random", "train.rungs=[0.5, 1.0]", "search.skip=false")
    trials = run(tmp_path / "own", study=study).study.record().trials
    assert {trial.rungs[-1].step for trial in trials if trial.reason == "dominated"} == {4}


def test_trials_are_stopped_at_rungs_and_skipped(tmp_path):
    study = file(
        "search.trials=40",
        "search.sampler=random",
        text=TEXT.replace('metric = "size"\nmax', 'metric = "size"\nmin = 0\nmax'),
    )
    record = run(tmp_path / "own", study=study).study.record()
    reasons = {trial.reason for trial in record.trials}
    assert "dominated" in reasons
    assert record.trained_count() == 40


def failing(what):
    def body(job: Job):
        if job.number != 1:
            yield from formula(job)
        elif what is None:
            return
        elif isinstance(what, BaseException):
            raise what
        else:
            yield from what

    return body


KNOWN = Measured({"size": 3})


@pytest.mark.parametrize(
    ("what", "reason", "detail"),
    [
        (ValueError("no such layer"), "error", "ValueError: no such layer"),
        (SystemExit(3), "error", "SystemExit: 3"),
        (MemoryError("too large"), "oom", "too large"),
        ([KNOWN, Reached(2, {"error": math.nan})], "nan", "error is nan at step 2"),
        ([KNOWN, Finished({"error": math.inf})], "nan", "error is inf at the end"),
        ([KNOWN, Finished({"eror": 1.0})], "error", "the final metrics lack error"),
        ([KNOWN, Reached(2, {"error": 1.0})], "error", "ended without Finished"),
        ([KNOWN, Reached(3, {"error": 1.0})], "error", "step 3 is not a rung to reach; the rungs are 2, 4, 8"),
        ([KNOWN, Reached(4, {"error": 1.0}), Reached(2, {"error": 1.0})], "error", "step 2 after 4"),
        ([KNOWN, {"error": 1.0}], "error", "not a dict"),
        ([KNOWN, Finished({"error": "low"})], "error", "error is 'low', which is not a number"),
        ([KNOWN, Finished({"an error": 1.0})], "error", "a metric's name"),
        ([KNOWN, KNOWN], "error", "Measured comes first, and once"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_failure_is_a_result_with_its_reason_and_the_search_goes_on(tmp_path, what, reason, detail):
    outcome = run(tmp_path / "own", failing(what), study=file("search.trials=3", "search.sampler=random"))
    trials = outcome.study.record().trials
    failed = trials[1]
    assert (failed.state, failed.reason) == (State.FAIL, reason)
    assert detail in failed.detail
    assert outcome.end is End.BUDGET


def test_a_body_that_is_no_generator_is_told(tmp_path):
    outcome = run(tmp_path / "own", lambda job: None)
    assert outcome.end is End.FAILURES
    assert "a body is a generator" in outcome.study.record().trials[0].detail


def test_a_cheap_metric_that_is_not_measured_ends_the_search_with_its_name(tmp_path):
    def body(job: Job):
        yield Finished({"error": 1.0, "size": 2.0})

    with pytest.raises(UsageError, match="the body told no 'size' before training"):
        run(tmp_path / "own", body)


def test_a_metric_on_a_logarithmic_scale_is_above_zero(tmp_path):
    def body(job: Job):
        yield Measured({"size": 0})

    text = TEXT.replace('unit = "kB"', 'unit = "kB"\nlog = true')
    outcome = run(tmp_path / "own", body, study=file(text=text))
    assert "size = 0 before training must be above 0" in outcome.study.record().trials[0].detail


@pytest.mark.parametrize(
    ("exact", "fastest", "state", "feasible"),
    [("false", 40, State.COMPLETE, True), ("false", 70, State.COMPLETE, False), ("true", 70, State.PRUNED, False)],
)
def test_a_measurement_that_a_body_calls_contended_is_judged_by_its_fastest_readings(
    tmp_path, exact, fastest, state, feasible
):
    def body(job: Job):
        yield Measured({"size": 90, "size_best": fastest, "contended": 1})
        yield Finished({"error": 1.0})

    text = TEXT.replace("cheap = true\nexact = true", f"cheap = true\nexact = {exact}")
    study = file("search.trials=1", "search.sampler=random", text=text)
    launch = driver.Launch(executor="serial", max_fail_rate=1.0)
    first = driver.run(study, tmp_path / "own", launch, body=body).study.record().trials[0]
    assert (first.state, first.feasible, first.contended, first.metrics["size"]) == (state, feasible, True, 90)
    assert first.reason == ("infeasible:size" if state is State.PRUNED else "")


def saving(job: Job):
    """Trains step by step, and saves each; asks whether to stop between steps."""
    saved = job.folder / "step"
    step = int(saved.read_text()) if saved.exists() else 0
    with job.measuring():
        size = float(job.parameters["width"])
    yield Measured({"size": size + 1000 * (job.attempt > 1)})
    log = job.folder.parent.parent / "log"
    while step < job.steps:
        if job.should_stop():
            return
        step += 1
        saved.write_text(str(step))
        with log.open("a") as lines:
            lines.write(f"{job.number} {step}\n")
        if step in job.rungs:
            yield Reached(step, {"error": 1 / step})
    yield Finished({"error": 1 / step + end(job.parameters["x"], job.parameters["width"], job.parameters["shape"])})


def test_an_interrupted_trial_goes_on_from_its_checkpoint_and_ends_as_the_uninterrupted_one(tmp_path):
    study = file("search.trials=5", "search.stopping=false", "search.skip=false")

    def observer(event):
        if event["type"] == "rung" and event["trial"] == 2 and event["step"] == 4:
            open_study(tmp_path / "own").store.close()
            (tmp_path / "own" / "stop-now").touch()

    first = driver.run(study, tmp_path / "own", SERIAL, observer, saving)
    assert first.end is None
    again = run(tmp_path / "own", saving, study=study).study.record()
    whole = run(tmp_path / "whole", saving, study=study).study.record()
    told = [(t.number, t.parameters, t.metrics["error"], t.metrics["size"], len(t.rungs)) for t in again.trials]
    assert told == [(t.number, t.parameters, t.metrics["error"], t.metrics["size"], len(t.rungs)) for t in whole.trials]
    assert again.trials[2].attempt == 2
    lines = (tmp_path / "own" / "log").read_text().splitlines()
    assert len(lines) == len(set(lines)) == 5 * 8  # no step was trained twice


def test_a_time_limit_ends_a_trial_that_asks(tmp_path):
    def body(job: Job):
        yield Measured({"size": 1})
        while not job.should_stop():
            pass

    study = file("search.trials=1", "train.time_limit=0.05")
    outcome = run(tmp_path / "own", body, driver.Launch(executor="serial", max_fail_rate=0.5), study=study)
    assert {trial.reason for trial in outcome.study.record().trials} == {"timeout"}


def test_folders_of_the_front_stay_whole_and_the_others_go(tmp_path):
    def body(job: Job):
        (job.folder / "deep").mkdir()
        (job.folder / "deep" / "model.bin").write_text("weights")
        yield from formula(job)

    study = run(tmp_path / "own", body).study
    front = {trial.number for trial in study.front()}
    kept = {int(path.parents[1].name) for path in (tmp_path / "own" / "trials").glob("*/deep/model.bin")}
    assert kept == front


def test_attention_models_are_given_as_architectures(tmp_path):
    seen = []

    def body(job: Job):
        seen.append(job.architecture)
        yield Measured(
            {"decode_ms_per_token": job.architecture.hidden / 100, "peak_inference_mib": 1, "weights_mib": 1}
        )
        yield Finished({"val_loss": 3 - job.architecture.depth / 10})

    tiny = study_file.load(Path(__file__).parents[2] / "search_spaces" / "tiny_lm.toml", ["search.trials=6"])
    record = run(tmp_path / "tiny", body, study=tiny).study.record()
    assert record.trained_count() == 6
    assert [trial.model for trial in record.trials] == seen
    assert record.data == {}


def test_a_stored_study_runs_no_code(tmp_path):
    run(tmp_path / "own", study=file("search.trials=2"))
    stored = open_study(tmp_path / "own")
    settings = stored.file
    stored.store.close()
    with pytest.raises(Conflict) as caught:
        run(tmp_path / "own", None, study=settings)
    assert (caught.value.exit_code, caught.value.code) == (4, "body-missing")
    with pytest.raises(Conflict, match="was created with another body"):
        run(tmp_path / "own", saving, study=file("search.trials=2"))
    assert run(tmp_path / "own", study=file("search.trials=4")).study.record().trained_count() == 4


def test_what_has_no_body_is_told_with_the_fix():
    with pytest.raises(UsageError) as caught:
        run(Path("nowhere"), None)
    assert (caught.value.where, caught.value.code) == ("space.parameters", "no-body")
    assert "body=" in caught.value.help


@pytest.mark.parametrize(
    ("change", "message", "where"),
    [
        (("low = 0.0, high = 1.0", "low = 2.0, high = 1.0"), "low = 2.0 must not be above high = 1.0", "parameters.x"),
        (("log = true", "log = true, step = 2"), "a logarithmic range has no step", "space.parameters.width"),
        (("low = 1, high = 64", "low = 0, high = 64"), "a logarithmic range is above 0", "space.parameters.width"),
        (("low = 0.0, high", "lo = 0.0, high"), "unknown key 'lo'", "space.parameters.x.lo"),
        (("high = 1.0 }", "high = 1.0, step = 0.3 }"), "no number of steps of 0.3", "space.parameters.x"),
        (('"flat"]', '"round"]'), "the choice 'round' is given twice", "space.parameters.shape"),
        (('"flat"]', "[1]]"), "a choice is a text, a number, true or false", "space.parameters.shape"),
        (("fixed = 7", "fixed = []"), "expected 1 to 1,000 choices", "space.parameters.fixed"),
        (("fixed = 7", '"a b" = 7'), "a parameter's name", "space.parameters.a b"),
        (("steps = 8", "steps = 8\nbatch = 4"), "'train.batch' belongs to the built-in training", "train.batch"),
        (("[search]", "[task]\n[search]"), "a space of parameters has no [task]", "task"),
        (("[search]", "[measure]\n[search]"), "a space of parameters has no [measure]", "measure"),
        (('name = "own"', 'name = "own"\nfamily = "encoder"'), "a space of parameters has no [family]", "family"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_spaces_that_cannot_be_are_told_with_place_and_value(change, message, where):
    with pytest.raises(InvalidStudyFile) as caught:
        study_file.parse(TEXT.replace(*change), source="own.toml")
    assert message in caught.value.message
    assert caught.value.where.endswith(where)


BASELINE = '[[baselines]]\nx = 0.5\nwidth = 8\nshape = "flat"\n'


def test_baselines_are_values_of_all_parameters_tried_first_and_never_ended_early(tmp_path):
    text = TEXT + BASELINE + BASELINE.replace("0.5", "1").replace('"flat"', '"flat"\nfixed = 7')
    study = file("search.trials=4", text=text)
    assert study_file.parse(study.to_toml()) == study
    record = run(tmp_path / "own", study=study).study.record()
    first = [trial.parameters for trial in record.trials if trial.baseline]
    assert first == [{"x": x, "width": 8, "shape": "flat", "fixed": 7} for x in (0.5, 1.0)]
    assert [trial.state for trial in record.trials[:2]] == [State.COMPLETE] * 2
    assert record.trials[0].params == {"x": 0.5, "width": 8, "shape": "flat"}
    again = run(tmp_path / "own", study=file("search.trials=5", text=text)).study.record()
    assert [trial.number for trial in again.trials if trial.baseline] == [0, 1]


@pytest.mark.parametrize(
    ("change", "message", "where"),
    [
        (("x = 0.5", "y = 0.5"), "'y' is no parameter of [space.parameters]", "baselines[0].y"),
        (("x = 0.5\n", ""), "'x' is missing", "baselines[0]"),
        (("x = 0.5", "x = 1.5"), "baselines[0].x = 1.5: expected 0.0 to 1.0", "baselines[0].x"),
        (("x = 0.5", "x = true"), "expected a number", "baselines[0].x"),
        (("width = 8", "width = 8.0"), "expected a whole number", "baselines[0].width"),
        (('"flat"', '"falt"'), "expected one of 'round', 'flat'", "baselines[0].shape"),
        (('"flat"', '"flat"\nfixed = 8'), "expected one of 7", "baselines[0].fixed"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_a_baseline_that_the_space_lacks_is_told_with_place_and_value(change, message, where):
    with pytest.raises(InvalidStudyFile) as caught:
        file(text=TEXT + BASELINE.replace(*change))
    assert message in caught.value.message
    assert caught.value.where.endswith(where)


@pytest.mark.parametrize(
    "given",
    [
        "space.parameters.x={low=0.0, high=1.0, log='no'}",
        "metrics.size.log='yes'",
        "metrics.size.cheap=1",
        "metrics.error.exact='on'",
        "search.skip=0",
        "search.stopping='off'",
    ],
)
def test_only_true_and_false_are_accepted_where_they_belong(given):
    with pytest.raises(InvalidStudyFile, match="input should be a valid boolean"):
        file(given)


def test_a_space_is_counted_or_continuous_and_comes_back_from_its_stored_form():
    assert file().search_space().size() is None
    discrete = file(text=TEXT.replace("low = 0.0, high = 1.0", "low = 0.0, high = 1.0, step = 0.25"))
    assert discrete.search_space().size() == len(list(discrete.search_space().walk())) == 5 * 64 * 2
    assert study_file.parse(discrete.to_toml()) == discrete


def test_a_small_space_is_exhausted_without_a_choice_twice(tmp_path):
    text = TEXT.replace("low = 0.0, high = 1.0", "low = 0.0, high = 1.0, step = 0.5").replace("high = 64", "high = 2")
    outcome = run(tmp_path / "own", study=file("search.trials=50", text=text))
    ids = [trial.architecture_id for trial in outcome.study.record().trials]
    assert (outcome.end, len(ids), len(set(ids))) == (End.EXHAUSTED, 12, 12)


def test_a_search_repeats_exactly(tmp_path):
    first, second = (run(tmp_path / name).study.record().trials for name in ("a", "b"))
    assert [(t.parameters, t.metrics) for t in first] == [(t.parameters, t.metrics) for t in second]
