"""The benchmark of costs at scale: what it puts into the database, and how it counts who waits for what."""

import gc
import json
import math
import random

import optuna
import pytest
from optuna.trial import TrialState
from typer.testing import CliRunner

from nas.architecture import Architecture
from nas.bench.formulas import STUDY, Formulas
from nas.bench.scale import fill, measure, served, timed
from nas.bench.workers import MOMENTS, SimulatedThread, Workers
from nas.cli.__main__ import app
from nas.running.events import Completed, Job, Measured, Reached
from nas.settings.study_file import parse
from nas.space.architecture_space import Space
from nas.study.store import Store, sqlite_url
from tests.documented import keys_of_list, section

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def formulas() -> Formulas:
    """With a sampler that costs nothing."""
    made = Formulas()
    made.file = made.file.model_copy(update={"search": made.file.search.model_copy(update={"sampler": "random"})})
    return made


def test_the_space_is_far_larger_than_the_study():
    assert Space(parse(STUDY).spaces()).size() > 10**10


def test_what_is_loaded_is_a_study_that_optuna_reads(formulas, tmp_path):
    fill(tmp_path, formulas, 60)
    trials = optuna.load_study(study_name="bench_scale", storage=sqlite_url(tmp_path)).get_trials()
    assert [trial.number for trial in trials] == list(range(60))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert len({trial.user_attrs["architecture_id"] for trial in trials}) == 60
    for trial, made in zip(trials, formulas.finished(60), strict=True):
        assert (trial.params, trial.distributions) == (made.params, made.distributions)
        assert (trial.values, trial.datetime_complete) == (made.values, trial.datetime_complete)
        architecture = Architecture.model_validate(trial.user_attrs["architecture"])
        assert trial.user_attrs["metrics"].items() >= formulas.measured(architecture).items()
        assert (len(trial.user_attrs["rungs"]) == 3) == (trial.state is TrialState.COMPLETE)


def test_a_trial_tells_the_same_however_often_it_runs(formulas):
    architecture = formulas.finished(1)[0].user_attrs["architecture"]
    first, second = ([body.step() for _ in MOMENTS] for body in (formulas.body(job(architecture)) for _ in range(2)))
    assert first == second
    assert [type(event) for event in first] == [Measured, Reached, Reached, Completed]


def job(architecture, number: int = 0) -> Job:
    return Job(number, 1, 0, architecture)


@pytest.mark.parametrize("ahead", [False, True])
def test_asks_are_timed_on_a_study_that_is_left_whole(formulas, tmp_path, monkeypatch, ahead):
    monkeypatch.setattr("nas.bench.scale.PACE_SECONDS", 0.0)
    fill(tmp_path, formulas, 30)
    figures = timed(tmp_path, formulas, asks=4, workers=3, ahead=ahead)
    for name in ("ask", "measured", "rung", "completed"):
        assert 0 < figures[f"{name}_ms"]["median"] <= figures[f"{name}_ms"]["p95"] <= figures[f"{name}_ms"]["max"]
    assert all(figures[f"{name}_seconds"] > 0 for name in ("read", "recover", "first_ask", "read_again"))
    rows = Store.open(sqlite_url(tmp_path)).rows()
    assert len(rows) >= 30 + 3 + 4
    assert all(row.state.is_finished() for row in rows)


def test_a_large_study_is_kept_from_the_garbage_collector(formulas, tmp_path, monkeypatch):
    monkeypatch.setattr("nas.running.proposer_thread.MANY", 20)
    fill(tmp_path, formulas, 30)
    gc.unfreeze()
    try:
        timed(tmp_path, formulas, asks=1, workers=1, ahead=False)
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_simulated_workers_run_real_trials_of_a_study(formulas, tmp_path):
    figures = served(tmp_path, formulas, count=4, ended=12)
    assert figures["ended"] == 12
    assert 0 < figures["idle"] < 1
    parts = sum(figures[f"idle_{what}"] for what in ("queue", "proposal", "own"))
    assert parts <= figures["idle"] + 1e-9
    assert figures["simulated_seconds"] > 3


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_the_command_tells_figures_of_the_size_that_was_asked_for(monkeypatch, options):
    monkeypatch.setattr("nas.bench.formulas.STUDY", STUDY + '[search]\nsampler = "random"\n')
    monkeypatch.setattr("nas.bench.scale.PACE_SECONDS", 0.0)
    small = {"asks": 2, "workers": 2, "ended": 4}
    monkeypatch.setattr("nas.bench.scale.measure", lambda trials, tell: measure(trials, tell, **small))
    outcome = CliRunner().invoke(app, ["bench", "driver", "--scale", "20", *options])
    assert outcome.exit_code == 0
    if options:
        result = json.loads(outcome.stdout.splitlines()[-1])
        assert (result["trials"], result["workers"]["ended"]) == (20, 4)
        listed = keys_of_list(section("nas bench driver").split("`result` holds `trials`")[1])
        assert result.keys() == {"v", "type", "trials", "database_mib"} | listed
    else:
        assert "after 20 trials" in outcome.stdout
        assert "2 workers wait" in outcome.stdout


class Clock:
    """Time that passes only when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> float:
        self.now += seconds
        return seconds


class Driver:
    """Every proposal takes so many seconds of a thread, one of them ahead; every answer so many of the driver."""

    def __init__(self, clock: Clock, thread: SimulatedThread, proposal: float, answer: float, jobs: int = 100) -> None:
        self.clock, self.thread, self.proposal, self.answer = clock, thread, proposal, answer
        self.numbers, self.ahead = iter(range(jobs)), None

    def next_job(self):
        number = next(self.numbers, None)
        if number is None:
            return None
        (self.ahead or self.thread.submit(self.clock.work, self.proposal)).result()
        self.ahead = self.thread.submit(self.clock.work, self.proposal)
        self.clock.work(self.answer)
        return job({}, number)

    def report(self, job, event):
        return isinstance(event, Measured | Reached)


class Body:
    def __init__(self, job: Job) -> None:
        self.events = iter([Measured({}), Reached(None), Reached(None), Completed(None, {})])

    def step(self):
        return next(self.events)


def serve(count: int, proposal: float = 0.0, answer: float = 0.0, **options) -> Workers:
    clock = Clock()
    thread = SimulatedThread(clock)
    return Workers(Driver(clock, thread, proposal, answer, **options), thread, Body, count)


def seconds_of(number: int) -> float:
    return math.exp(random.Random(f"0:{number}").uniform(0, math.log(100)))


def test_workers_of_a_driver_that_takes_no_time_never_wait():
    workers = serve(3, jobs=3)
    assert workers.until(3) == 0
    assert workers.now == pytest.approx(max(seconds_of(number) for number in range(3)))


def test_one_worker_waits_for_its_own_answers_alone():
    workers = serve(1, answer=0.5)
    assert workers.until(2) == pytest.approx(2 * 0.5 / (2 * 0.5 + seconds_of(0) + seconds_of(1)))
    assert (workers.waits.queue, workers.waits.proposal) == (0, 0)


def test_who_comes_while_the_driver_answers_others_waits_for_them_too():
    workers = serve(3, answer=0.01, jobs=3)
    workers.until(3)
    assert workers.waits.own == pytest.approx(3 * 0.01)
    assert workers.waits.queue == pytest.approx(0.01 + 0.02)


def test_a_proposal_ahead_is_waited_for_as_far_as_no_time_has_passed_for_it():
    first, second = seconds_of(0), seconds_of(1)
    assert min(first, second) > 0.2
    workers = serve(1, proposal=0.2)
    workers.until(2)
    assert workers.waits.proposal == pytest.approx(0.2)
    workers = serve(1, proposal=first + 0.2)
    workers.until(1)
    workers.until(2)
    assert workers.waits.proposal == pytest.approx(first + 0.2 + 0.2)


def test_the_thread_stands_still_while_the_driver_works():
    first = seconds_of(0)
    workers = serve(1, proposal=first, answer=first)
    workers.until(2)
    assert workers.waits.proposal == pytest.approx(first)
    assert workers.waits.own == pytest.approx(2 * first)


def test_those_who_wait_at_the_end_are_counted():
    workers = serve(50, answer=1000.0)
    assert workers.until(1) > 0.9


def test_a_thread_raises_what_its_call_raises():
    with pytest.raises(ZeroDivisionError):
        SimulatedThread().submit(lambda: 1 / 0)
