"""The benchmark of attention kinds, on sizes that take a moment; what the machine's speed decides is not judged."""

import csv
import json
import sys
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from nas.attention import MODULES
from nas.bench import attention, attention_figure, interleaved, scaling
from nas.bench.attention import COLUMNS, Settings, compare, parse_contexts, parse_kinds
from nas.bench.layer import Climb, Layer
from nas.cli.__main__ import main
from nas.kinds import Softmax, Window
from nas.measure import DeviceLock
from nas.measure.latency import quiet
from tests.documented import keys_of_json

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _short_warm_up(monkeypatch):
    monkeypatch.setattr(interleaved, "WARM_UP_SECONDS", 1e-9)


@pytest.fixture
def nas(monkeypatch, tmp_path, capsys):
    """`nas bench attention` as from a shell, writing to an `out` of its own."""

    def run(*arguments: str) -> SimpleNamespace:
        line = ["nas", "bench", "attention", "--out", str(tmp_path / "out"), *arguments]
        monkeypatch.setattr(sys, "argv", line)
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return SimpleNamespace(code=ended.value.code or 0, out=captured.out, err=captured.err)

    return run


def settings_of(kinds: str | None, *contexts: int) -> Settings:
    return Settings(parse_kinds(kinds, hidden=16, heads=2), contexts, hidden=16, threads=1, repeats=2)


def row(kind: str, context: int, forward: float, training: float, decode: float | None) -> dict:
    times = {"forward_ms": forward, "training_ms": training, "decode_ms": decode}
    return dict.fromkeys(COLUMNS) | {"kind": kind, "context": context, "flops": 2 * context} | times


SYNTHETIC = [
    *(row("softmax", c, c**2 / 1e4, c**2 / 1e3, c / 1e4) for c in (512, 1024, 2048, 4096)),
    *(row("linear", c, c / 10, c / 2, 0.5) for c in (512, 1024, 2048, 4096)),
    *(row("linformer", c, c / 20, c / 4, None) for c in (512, 1024, 2048, 4096)),
]


@pytest.fixture(scope="module")
def of_all_kinds():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interleaved, "WARM_UP_SECONDS", 1e-9)
        return compare(settings_of(None, 4, 9), lambda what: None)


def test_every_kind_of_the_table_has_a_row_at_each_context(of_all_kinds):
    names = [kind.model_fields["kind"].default for kind in MODULES] + [attention.ALSO]
    rows = of_all_kinds["rows"]
    assert [(row["kind"], row["context"]) for row in rows] == [(name, c) for c in (4, 9) for name in names]
    assert list(of_all_kinds["settings"]["kinds"]) == names
    for row in rows:
        assert set(row) == set(COLUMNS)
        assert row["skipped"] is None
        causal = row["form"] == "causal"
        assert ([row[name] is not None for name in ("decode_ms", "decode_ms_p90", "decode_state_bytes")]) == [
            causal
        ] * 3
        for operation in scaling.OPERATIONS[: 3 if causal else 2]:
            low, middle, high = (row[f"{operation}_ms{part}"] for part in ("_p10", "", "_p90"))
            assert 0 < low <= middle <= high
            assert row[f"{operation}_ms_count"] == 2
        assert row["peak_training_mib"] >= row["peak_inference_mib"] > 0


def test_the_result_is_plain_data_without_nan(of_all_kinds):
    assert json.loads(json.dumps(of_all_kinds, allow_nan=False)) == of_all_kinds
    assert of_all_kinds["environment"]["threads"] == 1
    assert 0 <= of_all_kinds["contended"] <= 1
    assert of_all_kinds["exponents"] == {}  # no context is long enough
    assert {"softmax", "window"} <= set(of_all_kinds["decode_flatness"])
    assert set(of_all_kinds["speedup_over_softmax"]["window"]) == {"4", "9"}


def test_exponents_are_the_slopes_of_the_logarithms():
    told = scaling.summary(SYNTHETIC)["exponents"]
    assert told["softmax"] == pytest.approx({"forward": 2, "training": 2, "decode": 1})
    assert told["linear"] == pytest.approx({"forward": 1, "training": 1, "decode": 0}, abs=1e-9)
    assert told["linformer"] == pytest.approx({"forward": 1, "training": 1})


def test_exponents_are_fitted_from_1024_on():
    bent = [row("softmax", c, max(c, 1024) ** 1.5, 1.0, None) for c in (128, 512, 1024, 2048)]
    assert scaling.summary(bent)["exponents"]["softmax"]["forward"] == pytest.approx(1.5)
    assert scaling.summary(bent[:3])["exponents"] == {}


def test_ratios_are_to_softmax():
    told = scaling.summary(SYNTHETIC)
    assert told["training_over_softmax_512"] == pytest.approx(
        {"softmax": 1, "linear": 256 / 262.144, "linformer": 128 / 262.144}
    )
    assert told["decode_flatness"] == pytest.approx({"softmax": 8, "linear": 1})
    assert told["speedup_over_softmax"]["linear"]["4096"] == pytest.approx(
        {"forward": 4.096, "training": 8.192, "decode": 0.8192}
    )
    assert set(told["speedup_over_softmax"]["linformer"]["4096"]) == {"forward", "training"}


def test_without_softmax_nothing_is_compared_with_it():
    told = scaling.summary([row for row in SYNTHETIC if row["kind"] != "softmax"])
    assert (told["training_over_softmax_512"], told["speedup_over_softmax"]) == ({}, {})
    assert set(told["exponents"]) == {"linear", "linformer"}


@pytest.mark.parametrize(("ms", "most", "times"), [(0.1, 200, 200), (4, 200, 50), (100, 200, 5), (100, 3, 3)])
def test_short_calls_are_repeated_more_often(ms, most, times):
    assert interleaved.repeats(ms, most) == times


@pytest.mark.parametrize(("ms", "times"), [(1200, 4), (3000, 1), (60_000, 1)])
def test_slow_calls_are_repeated_less_often_and_never_dropped(ms, times):
    assert interleaved.repeats(ms, 200) == times


def test_calls_take_turns_each_after_its_preparation():
    log = list[str]()
    calls = {
        name: interleaved.Call(partial(lambda name, given: log.append(name + given), name), lambda: "!")
        for name in "ab"
    }
    timed = interleaved.interleaved(calls, most=5, lock=DeviceLock("cpu"))
    assert log == ["a!", "b!"] * 6  # once to warm up
    assert [found.ms.count for found in timed.values()] == [5, 5]


def test_every_decode_step_is_the_last_of_the_context():
    of_kind = Layer(Softmax(heads=2), hidden=16, context=9)
    call = of_kind.call("decode")
    with quiet(of_kind.module, 1):
        first = call.prepare()
        call.run(first)
        again = call.prepare()
    assert (first.length, again.length) == (9, 8)
    written = [state.keys_BKCE.abs().sum((0, 1, 3)) > 0 for state in (first, again)]
    assert [slots.tolist() for slots in written] == [[True] * 9, [True] * 8 + [False]]


def test_training_takes_the_gradient_of_the_input_and_of_every_weight(monkeypatch):
    asked = list[int]()
    gradients = torch.autograd.grad

    def grad(output, sources, **how):
        asked.extend(map(id, sources))
        return gradients(output, sources, **how)

    monkeypatch.setattr(torch.autograd, "grad", grad)
    of_kind = Layer(Softmax(heads=2), hidden=16, context=4)
    with quiet(of_kind.module, 1):
        of_kind.call("training").ms()
    assert set(asked) == {id(of_kind.x_BTD), *map(id, of_kind.module.parameters())}


def test_layers_are_alike_in_every_run_and_leave_the_generator_alone():
    before = torch.random.get_rng_state()
    first, second = (Layer(Window(heads=2), 16, 4) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.x_BTD, second.x_BTD)
    assert all(map(torch.equal, first.module.parameters(), second.module.parameters()))


def test_memory_is_climbed_in_doublings_and_never_beyond_the_limit(monkeypatch):
    seen = list[int]()

    def quadratic(climb: Climb, context: int) -> float:
        seen.append(context)
        return 10 * (context / 1024) ** 2

    monkeypatch.setattr(Climb, "_peak_mib", quadratic)
    climb = Climb(Softmax(), 128, training=True, limit_mib=200)
    for context in (512, 6000):
        climb.to(context)
    assert seen == [512, 1024, 2048, 4096]
    assert climb.mib == 160
    climb.to(16384)
    assert seen[-1] == 4096
    assert "training with 6000 tokens may need 0.3 GiB, above 0.2 GiB" in climb.refused


def test_what_would_not_fit_is_told_in_its_row(monkeypatch, nas, tmp_path):
    monkeypatch.setattr(attention, "Climb", partial(Climb, limit_mib=1e-6))
    ran = nas("--kinds", "softmax,linear", "--contexts", "4,8", "--hidden", "16", "--repeats", "1")
    assert ran.code == 0
    assert "softmax at 8: inference with 8 tokens may need" in ran.err
    with (tmp_path / "out" / "attention.csv").open(encoding="utf-8") as file:
        short, long = (row for row in csv.DictReader(file) if row["kind"] == "softmax")
    assert (float(short["training_ms"]) > 0, short["skipped"]) == (True, "")
    assert long["forward_ms"] == long["training_ms"] == long["decode_ms"] == long["peak_training_mib"] == ""
    assert "inference with 8" in long["skipped"]
    assert "training with 8" in long["skipped"]
    assert int(long["flops"]) > 0


def test_writes_table_figure_and_facts_and_prints_tables(nas, tmp_path):
    ran = nas("--kinds", "softmax, window window=2", "--contexts", "8,4", "--hidden", "16", "--repeats", "2")
    assert ran.code == 0
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [f"attention.{end}" for end in ("csv", "json", "png", "svg")]
    facts = json.loads((out / "attention.json").read_text(encoding="utf-8"))
    assert facts["settings"]["contexts"] == [4, 8]
    assert facts["settings"]["kinds"]["window window=2"] == {"kind": "window", "window": 2}
    with (out / "attention.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS)
    assert [float(row["decode_ms"]) for row in rows] == [row["decode_ms"] for row in facts["rows"]]
    assert "at 8 tokens" in ran.out
    assert ran.out.count("window window=2") == 2
    assert str(out) in ran.out
    assert "context 4: decode" in ran.err


def test_json_is_one_object(nas, tmp_path):
    ran = nas("--kinds", "linear", "--contexts", "4", "--hidden", "16", "--repeats", "1", "--json")
    (line,) = ran.out.splitlines()
    told = json.loads(line)
    facts = json.loads((tmp_path / "out" / "attention.json").read_text(encoding="utf-8"))
    assert told == facts | {"v": 1, "type": "result", "folder": str(tmp_path / "out")}
    assert set(facts) == keys_of_json("nas bench attention")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--kinds", "softmax,windo"], ["unknown attention kind 'windo'", "did you mean 'window'?"]),
        (["--kinds", "softmax,"], ["unknown attention kind ''", "one of"]),
        (["--kinds", "window windw=8"], ["unknown field 'windw' of window attention", "did you mean 'window'?"]),
        (["--kinds", "window kind=softmax"], ["unknown field 'kind'"]),
        (["--kinds", "window window=0"], ["window=0", "greater than 0"]),
        (["--kinds", "softmax", "--heads", "3"], ["heads=3 must divide hidden=128", "use one of 1, 2, 4"]),
        (["--contexts", "128,many"], ["cannot read the contexts '128,many'", "128,256,512"]),
        (["--contexts", "1"], ["from 2 to"]),
    ],
)
def test_what_is_wrong_is_told_before_anything_runs(nas, tmp_path, arguments, parts):
    ran = nas(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert all(part in ran.err for part in parts), ran.err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_told_before_anything_runs(nas, tmp_path):
    (tmp_path / "out").write_text("a file")
    ran = nas("--kinds", "softmax")
    assert ran.code == 5
    assert "context" not in ran.err


@pytest.mark.parametrize("name", ["softmax", "softmax kv_heads=1 qk_norm", "window window=256", "linear heads=2"])
def test_a_kind_is_called_what_the_option_takes(name):
    (told, spec), *rest = parse_kinds(name, hidden=64, heads=4).items()
    assert (told, rest) == (name, [])
    assert parse_kinds(told, hidden=64, heads=4) == {name: spec}


def test_heads_are_those_asked_for_unless_the_kind_says_otherwise():
    kinds = parse_kinds("softmax, linear heads=2", hidden=64, heads=8)
    assert {name: (spec.heads, spec.size(64)) for name, spec in kinds.items()} == {
        "softmax": (8, 8),
        "linear heads=2": (2, 32),
    }
    assert kinds["softmax"].kv_heads == 8


def test_contexts_are_sorted_and_each_is_there_once():
    assert parse_contexts("512, 128,512") == (128, 512)


def test_sixteen_kinds_can_be_told_apart_in_the_figure():
    kinds = ["softmax", *(f"kind {i}" for i in range(15))]
    rows = [row(kind, c, 1.0 + i, 2.0, None) for i, kind in enumerate(kinds) for c in (128, 256)]
    figure = attention_figure.draw(rows)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == kinds
    lines = legend.get_lines()
    looks = {(line.get_color(), line.get_linestyle(), line.get_marker(), line.get_linewidth()) for line in lines}
    assert len(looks) == len(kinds)
    forward = next(axes for axes in figure.axes if axes.get_title(loc="left") == "forward, ms")
    assert sorted(list(line.get_ydata()) for line in forward.lines) == [[1.0 + i] * 2 for i in range(16)]


def test_what_computes_nothing_is_not_drawn():
    rows = [row("softmax", 128, 1.0, 2.0, 0.1), row("none", 128, 1e-3, 1e-3, 1e-3) | {"flops": 0}]
    (legend,) = attention_figure.draw(rows).legends
    assert [text.get_text() for text in legend.get_texts()] == ["softmax"]
    assert attention_figure.draw(rows[1:]).axes
