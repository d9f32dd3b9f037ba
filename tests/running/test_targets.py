"""Studies with targets. What is measured is given, but for one real measurement."""

import json

import pytest

from nas.api.study import Study
from nas.errors import UsageError
from nas.measure import DeviceLock, energy
from nas.measure.costs import Costs
from nas.measurement import MAIN, TimedMetrics
from nas.running import driver, measurable, measuring, target_measuring
from nas.running.driver import Launch
from nas.running.events import Waiting
from nas.running.known_costs import known_costs
from nas.running.measuring import LoneMeasurement, WorkloadMeasurement, measured_alone
from nas.running.placement import place
from nas.running.target_measuring import TargetModel
from nas.space.architecture_space import Space
from nas.study.limits import within
from nas.study.stored_study import open_study
from nas.tasks import open_task
from tests.running.tables import cheap
from tests.running.test_driver import tiny

SERIAL = Launch(executor="serial")
TWO = 'targets=[{name="phone"},{name="server",batch=8,dtype="bfloat16",context=24,prompt=4}]'
TIMES = ("decode_ms_per_token@phone", "decode_ms_per_token@server")
OBJECTIVES = f'objectives=[{{metric="val_loss"}},{{metric="{TIMES[0]}"}},{{metric="{TIMES[1]}"}}]'


@pytest.fixture
def given(monkeypatch, quick_search):
    """Measurements by formulas. Returns the calls: (target, architecture id)."""
    calls = []

    def main(architecture, *arguments):
        calls.append((MAIN, architecture.id))
        return TimedMetrics({**cheap(architecture), "prefill_ms": 1.0, "contended": 0.0}, {})

    def times(self, should_stop):
        name, architecture = self._target.name, self._architecture
        calls.append((name, architecture.id))
        factor = {"phone": 1.0, "server": 1 / architecture.depth}.get(name, 0.5)
        found = {f"decode_ms_per_token@{name}": architecture.hidden * factor, f"prefill_ms@{name}": 1.0}
        return TimedMetrics({**found, "contended": 0.0})

    monkeypatch.setattr(measuring, "_measure", main)
    monkeypatch.setattr(measuring, "_count", lambda *arguments: {})
    monkeypatch.setattr(TargetModel, "times", times)
    monkeypatch.setattr(TargetModel, "counts", lambda self: {})
    monkeypatch.setattr(TargetModel, "compile", lambda self: calls.append(("compile", self._architecture.id)))
    return calls


@pytest.mark.slow
def test_a_search_with_two_targets_has_an_objective_each_and_the_report_names_both(tmp_path, corpus, given):
    file = tiny(corpus, TWO, OBJECTIVES, "constraints=[]")
    study = driver.run(file, tmp_path / "study", SERIAL).study
    record = study.record()
    for trial in record.trials:
        assert trial.metrics["decode_ms_per_token@phone"] == trial.model.hidden
        assert trial.metrics["decode_ms_per_token@server"] == trial.model.hidden / trial.model.depth
    page = Study(study).write_report(tmp_path / "report").read_text(encoding="utf-8")
    assert all(f"{name} (ms)" in page for name in TIMES)
    front = json.loads((tmp_path / "report" / "front.json").read_text(encoding="utf-8"))
    assert all(name in member["metrics"] for name in TIMES for member in front)
    assert set(TIMES) <= set(open_study(tmp_path / "study").to_frame().columns)
    kept = within(record, ["decode_ms_per_token@server<=16"]).trials
    assert {trial.metrics["decode_ms_per_token@server"] for trial in kept} <= {8.0, 16.0}
    study.store.close()


@pytest.mark.slow
def test_a_compiled_target_waits_for_the_limits_on_what_is_eager(tmp_path, corpus, given):
    targets = 'targets=[{name="fast",runtime="compile"},{name="phone"}]'
    objectives = 'objectives=[{metric="val_loss"},{metric="decode_ms_per_token@fast"}]'
    limit = 'constraints=[{metric="decode_ms_per_token@phone",max=20}]'
    told = []
    study = driver.run(tiny(corpus, targets, objectives, limit), tmp_path / "study", SERIAL, told.append).study
    trials = study.trials()
    over = {trial.architecture_id for trial in trials if trial.reason == "infeasible:decode_ms_per_token@phone"}
    assert over == {trial.architecture_id for trial in trials if trial.model.hidden == 32} != set()
    compiled = {architecture_id for what, architecture_id in given if what == "compile"}
    assert compiled == {trial.architecture_id for trial in trials} - over
    assert all(given.index(("phone", each)) < given.index(("compile", each)) for each in compiled)
    measured = [event["trial"] for event in told if event["type"] == "measured"]
    assert sorted(measured) == sorted([t.number for t in trials] + [t.number for t in trials if t.trained])
    assert all(trial.metrics["decode_ms_per_token@fast"] == 8.0 for trial in trials if trial.trained)
    study.store.close()


class OneWait:
    """Waits once, then tells."""

    def __init__(self, metrics):
        self.script = iter([Waiting("device", 1.0), TimedMetrics(metrics, {str(metrics): {}})])

    def step(self):
        return next(self.script)


def test_the_measurements_of_workloads_are_taken_in_turn_and_joined():
    parts = [lambda: OneWait({"a": 1.0, "contended": 0.0}), lambda: OneWait({"b": 2.0, "contended": 1.0})]
    measurement = LoneMeasurement([*parts, lambda: OneWait({"c": 3.0, "contended": 0.0})])
    assert [isinstance(measurement.step(), Waiting) for _ in range(3)] == [True] * 3
    found = measurement.step()
    assert found.metrics == {"a": 1.0, "b": 2.0, "c": 3.0, "contended": 1.0}
    assert len(found.measurement) == 3


def test_a_preparation_comes_before_the_device_is_taken(tmp_path):
    """Compiling takes long, and others may train meanwhile."""
    done, other = [], DeviceLock("cpu", tmp_path)

    def prepare():
        with other.training_step():
            done.append("prepared")

    def take():
        done.append("taken")
        return TimedMetrics({"contended": float(len(done) < 3)})

    measurement = WorkloadMeasurement(take, DeviceLock("cpu", tmp_path), prepare=prepare)
    assert isinstance(measurement.step(), Waiting)
    assert (measurement.step().metrics["contended"], done) == (0.0, ["prepared", "taken", "taken"])


@pytest.mark.slow
@pytest.mark.usefixtures("quick_search")
def test_a_real_target_is_measured_in_its_own_dtype_batch_and_context(corpus):
    file = tiny(corpus, TWO, OBJECTIVES, 'constraints=[{metric="decode_state_kib@server",max=9999}]')
    task, architecture = open_task(file.task), next(iter(Space(file.spaces()).walk()))[1]
    lock = DeviceLock("cpu")
    found = measured_alone(LoneMeasurement.of(architecture, task, file, "cpu", lock))
    told = {name: entry["protocol"] for name, entry in found.measurement.items()}
    assert told.keys() == {MAIN, "phone", "server"}
    wanted = {"dtype": "bfloat16", "batch": 8, "prompt": 4, "generated": 20, "runtime": "eager", "device": "cpu"}
    assert wanted.items() <= told["server"].items()
    assert (told["phone"]["dtype"], told["phone"]["prompt"]) == ("float32", 8)
    metrics = found.metrics
    assert metrics["weights_mib@phone"] == metrics["weights_mib"]
    # Half, and tables of positions for a longer context.
    assert 0.5 < metrics["weights_mib@server"] / metrics["weights_mib"] < 0.6
    assert metrics["decode_state_kib@server"] == metrics["decode_state_kib"] * 8 / 2 * 24 / 16
    assert metrics["peak_inference_mib@phone"] == metrics["peak_inference_mib"]
    assert "params@phone" not in metrics
    known = known_costs(file, task)(architecture)
    assert {name: metrics[name] for name in known} == known
    assert "decode_state_kib@server" in known
    assert "decode_state_kib@phone" not in known


def test_without_targets_the_known_costs_are_those_of_measure(corpus):
    file = tiny(corpus)
    task, architecture = open_task(file.task), next(iter(Space(file.spaces()).walk()))[1]
    assert known_costs(file, task)(architecture) == Costs(task.vocabulary, 16).metrics(architecture)


@pytest.mark.parametrize(
    ("overrides", "where", "code"),
    [
        (['targets=[{name="a",threads=1024}]'], "targets[0].threads", "no-slot"),
        (["measure.threads=1024"], "measure.threads", "no-slot"),
        (['targets=[{name="b"},{name="a",device="cuda"}]'], "targets[1].device", "no-gpu"),
        (['targets=[{name="a",runtime="compile"}]'], "targets[0].runtime", "no-compiler"),
        (['objectives=[{metric="energy_mj_per_token"}]'], "objectives[0].metric", "not-measurable"),
        (['constraints=[{metric="energy_mj_per_token",max=1}]'], "constraints[0].metric", "not-measurable"),
        (
            ['targets=[{name="a"}]', 'objectives=[{metric="val_loss"},{metric="energy_mj_per_token@a"}]'],
            "objectives[1].metric",
            "not-measurable",
        ),
    ],
)
def test_what_this_machine_cannot_measure_is_refused_before_anything_is_made(
    tmp_path, corpus, monkeypatch, overrides, where, code
):
    monkeypatch.setattr(measurable, "can_compile", lambda device: False)
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "powercap")
    monkeypatch.setattr(target_measuring.torch.cuda, "is_available", lambda: False)
    file = tiny(corpus, *overrides)
    for refused in (lambda: place(file), lambda: driver.run(file, tmp_path / "study", SERIAL)):
        with pytest.raises(UsageError) as caught:
            refused()
        assert (caught.value.where, caught.value.code) == (where, code)
    assert not (tmp_path / "study").exists()


def test_energy_that_is_counted_may_be_an_objective(tmp_path, corpus, monkeypatch):
    domain = tmp_path / "intel-rapl:0"
    domain.mkdir()
    for name, value in {"name": "package-0", "energy_uj": "5", "max_energy_range_uj": "1000"}.items():
        (domain / name).write_text(value, encoding="utf-8")
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    place(tiny(corpus, 'objectives=[{metric="energy_mj_per_token"}]'))


def test_a_body_given_in_python_has_no_targets(tmp_path, corpus):
    with pytest.raises(UsageError, match="measures by itself"):
        driver.run(tiny(corpus, TWO), tmp_path / "study", SERIAL, body=lambda job: iter(()))
