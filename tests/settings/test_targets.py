"""Targets in a study file: their metrics, and what is refused."""

import pytest

from nas.errors import InvalidStudyFile
from nas.results import METRICS
from nas.settings import study_file
from nas.settings.target_settings import COUNTED, TIMED, at_target, base_of, is_timed, target_metrics

FILE = """
name = "small"
[task]
context = 32
[space]
depth = [1]
hidden = [64]
attention = [{ kind = "softmax", heads = [1, 2] }]
[measure]
threads = 1
[[targets]]
name = "phone"
[[targets]]
name = "server"
threads = 2
batch = 8
context = 128
prompt = 100
dtype = "bfloat16"
[[objectives]]
metric = "val_loss"
[[objectives]]
metric = "decode_ms_per_token@phone"
[[objectives]]
metric = "decode_ms_per_token@server"
[[constraints]]
metric = "decode_state_kib@server"
max = 200
"""


def test_each_target_has_metrics_of_its_own():
    file = study_file.parse(FILE)
    first, second, third = file.objective_list()
    assert (second.goal, second.unit, second.label) == ("min", "ms", "decode_ms_per_token@phone (ms)")
    assert third.means.text.endswith(", on the target server")
    assert (third.means.cheap, third.means.exact, third.means.log) == (True, False, True)
    (limit,) = file.constraint_list()
    assert (limit.means.cheap, limit.means.exact, limit.means.log) == (True, True, False)
    assert first.own is None
    found = target_metrics(file.targets)
    assert found.keys() == {f"{name}@{target}" for name in (*TIMED, *COUNTED) for target in ("phone", "server")}
    assert all(METRICS[base_of(name)].unit == metric.unit for name, metric in found.items())


def test_a_resolved_file_has_its_targets_and_one_without_has_none():
    file = study_file.parse(FILE)
    assert study_file.parse(file.to_toml()) == file
    assert [target["name"] for target in file.resolved()["targets"]] == ["phone", "server"]
    without = study_file.parse(FILE, ["targets=[]", 'objectives=[{metric="val_loss"}]', "constraints=[]"])
    assert "targets" not in without.resolved()


def test_the_workload_of_a_target_replaces_that_of_measure():
    file = study_file.parse(FILE, ["measure.repeats=7", "measure.prompt=5"])
    phone, server = (target.measure(file.measure) for target in file.targets)
    assert (phone.batch, phone.prompt, phone.threads, phone.repeats) == (1, None, 1, 7)
    assert (server.batch, server.prompt, server.threads, server.repeats) == (8, 100, 2, 7)


FREE = ('objectives=[{metric="val_loss"}]', "constraints=[]")
"""No metric of a target is used."""


@pytest.mark.parametrize(
    ("override", "where", "told"),
    [
        ("targets=[{name='a'},{name='a'}]", "targets[1].name", "two targets"),
        ("targets=[{name='measure'}]", "targets[0].name", "workload of"),
        ("targets=[{name='a_p10'}]", "targets[0].name", "letters, digits and '-'"),
        ("targets=[{name='a', prompt=32}]", "targets[0].prompt", "leaves nothing to decode"),
        ("targets=[{name='a', batch=600000}]", "targets[0].batch", "is more than"),
        ("targets=[{name='a', dtype='int8'}]", "targets[0].dtype", "unknown value"),
        ("targets=[{name='a', runtime='onnx'}]", "targets[0].runtime", "unknown value"),
        ("targets=[{name='a', thread=2}]", "targets[0].thread", "unknown key"),
        ("targets=[{threads=2}]", "targets[0].name", "is missing"),
        ("targets=[{name='phone'}]", "objectives[2].metric", "unknown metric 'decode_ms_per_token@server'"),
        ("objectives=[{metric='params@phone'}]", "objectives[0].metric", "unknown metric"),
        ("objectives=[{metric='generation_ms@phone'}]", "objectives[0].metric", "has no 'generation_ms@phone'"),
        ("trial={body='mine:train'}", "targets[0]", "measures by itself"),
    ],
)
def test_what_no_target_can_be_is_refused(override, where, told):
    with pytest.raises(InvalidStudyFile) as caught:
        study_file.parse(FILE, [*([] if "metric" in told or "objectives" in override else FREE), override])
    assert caught.value.where.endswith(where)
    assert told in caught.value.message


def test_spreads_stay_behind_the_name_of_a_targets_metric():
    told = {
        "decode_ms_per_token": 1.0,
        "decode_ms_per_token_p10": 0.5,
        "params": 3.0,
        "contended": 1.0,
        "weights_mib": 2,
    }
    assert at_target(told, "x") == {
        "decode_ms_per_token@x": 1.0,
        "decode_ms_per_token@x_p10": 0.5,
        "weights_mib@x": 2,
    }
    assert (is_timed("prefill_ms@x"), is_timed("weights_mib@x"), is_timed("val_loss"), is_timed("own")) == (
        *(True, False, False, False),
    )
