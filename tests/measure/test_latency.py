"""Which tokens are timed, in which order, and which readings count. The durations themselves are never looked at."""

import gc
from itertools import count, cycle

import pytest
import torch
from torch import nn

from nas.errors import UsageError
from nas.measure import latency as latency_module
from nas.measure.generation import Generation, Workload
from nas.measure.latency import MeasuringStopped, latency, quiet
from nas.measurement import Interval
from nas.settings.study_settings import MeasureSettings


class Recorder:
    """Notes every call, as (what, first token, number of tokens before)."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, int]] = []

    def new_state(self, batch: int, context: int) -> dict[str, int]:
        return {"length": 0, "context": context}

    def prefill(self, tokens_BT, state):
        self._read("prefill", tokens_BT, state)

    def decode_step(self, token_B, state):
        self._read("decode", token_B[:, None], state)

    def _read(self, what, tokens_BT, state):
        self.calls.append((what, int(tokens_BT[0, 0]), state["length"]))
        state["length"] += tokens_BT.size(1)
        assert state["length"] <= state["context"]

    def state_bytes(self, batch: int, context: int) -> int:
        return 8


class ScriptedPace:
    """Tells one loop time after the other, the last one for ever; the best is 100."""

    def __init__(self, *loop_ns: float) -> None:
        self._loop_ns = list(loop_ns)

    def loop_ns(self) -> float:
        return self._loop_ns.pop(0) if len(self._loop_ns) > 1 else self._loop_ns[0]

    def full(self, loop_ns: float) -> bool:
        return loop_ns < 125


def workload(context: int = 6, prompt: int = 3) -> Workload:
    return Workload(torch.arange(context).expand(2, -1), prompt)


def test_decoding_goes_on_to_the_end_of_the_context_then_starts_again():
    model = Recorder()
    generation = Generation(model, workload())
    for _ in range(4):
        assert generation.decode_ms() >= 0
    decode = [("decode", 3, 3), ("decode", 4, 4), ("decode", 5, 5)]
    assert model.calls == [("prefill", 0, 0), *decode, ("prefill", 0, 0), decode[0]]


def test_a_prefill_reading_has_a_new_state_and_leaves_a_generation_under_way_alone():
    model = Recorder()
    generation = Generation(model, workload())
    generation.decode_ms()
    generation.prefill_ms()
    generation.decode_ms()
    assert model.calls[2:] == [("prefill", 0, 0), ("decode", 4, 4)]


def settings(repeats: int = 5, precision: float = 1.0, protocol: int = 2) -> MeasureSettings:
    """By default, every interval is narrow enough, so that no duration decides how many rounds there are."""
    return MeasureSettings(repeats=repeats, precision=precision, protocol=protocol)


def first_protocol(repeats: int) -> MeasureSettings:
    return settings(repeats, protocol=1)


@pytest.fixture(autouse=True)
def even_times(monkeypatch):
    """Every call takes the same time."""
    monkeypatch.setattr(Generation, "_timed_ms", lambda self, run: (run(), 1.0)[1])


@pytest.mark.parametrize(("context", "steps"), [(6, 8), (203, 40)])
def test_with_the_first_protocol_a_round_is_a_prefill_and_a_burst(context, steps):
    timed = latency(Recorder(), workload(context), first_protocol(5), ScriptedPace(100))
    assert (timed.prefill_ms.count, timed.decode_ms.count, timed.slowed) == (5, 5 * steps, False)
    assert (timed.decode_ms.within, timed.depths) == (None, {})


@pytest.mark.parametrize(("context", "decoded"), [(6, 9), (35, 32), (67, 64), (68, 60), (203, 60)])
def test_every_round_times_the_same_positions(context, decoded):
    """Short generations as a whole, several of them where they have fewer than eight tokens; of long ones samples."""
    model = Recorder()
    timed = latency(model, workload(context), settings(6), ScriptedPace(100))
    assert {len(r.decode_ms) for r in timed.rounds} == {decoded}
    assert len({len(r.prefill_ms) for r in timed.rounds}) == 1
    decodes = [before for what, _, before in model.calls if what == "decode"]
    assert min(decodes) >= 3
    assert max(decodes) < context


def test_readings_of_a_round_are_in_the_order_of_their_positions(monkeypatch):
    """A token takes as many milliseconds as there are tokens before it."""
    model = Recorder()
    monkeypatch.setattr(Generation, "_timed_ms", lambda self, run: (run(), float(model.calls[-1][2]))[1])
    timed = latency(model, workload(13), settings(6), ScriptedPace(100))
    assert {r.decode_ms for r in timed.rounds} == {tuple(map(float, range(3, 13)))}
    assert timed.decode_ms.median == 7.5
    assert timed.depths == {
        "decode_ms_per_token_start": 3.5,
        "decode_ms_per_token_middle": 7.5,
        "decode_ms_per_token_end": 11.5,
    }
    long = latency(model, workload(103), settings(6), ScriptedPace(100))
    assert {r.decode_ms for r in long.rounds} == {tuple(float(3 + 20 * d + 4 + i) for d in range(5) for i in range(12))}


def test_rounds_are_added_until_the_interval_of_each_median_is_narrow(monkeypatch):
    """Readings of 1 and 2 ms in turn have no narrow interval; once they are alike, more and more of them have."""
    script = iter([1.0, 2.0] * 3 + [1.0] * 1000)
    monkeypatch.setattr(latency_module, "_warm_up", lambda *arguments: 1)
    monkeypatch.setattr(Generation, "all_ms", lambda self: [1.0] * 8)
    monkeypatch.setattr(Generation, "prefill_ms", lambda self: next(script))
    timed = latency(Recorder(), workload(11), settings(100, precision=0.02), ScriptedPace(100))
    assert (timed.prefill_ms.count, timed.prefill_ms.within) == (15, Interval(1.0, 1.0))
    for repeats, least in ((100, 12), (30, 12), (7, 7), (1, 6)):
        assert latency(Recorder(), workload(11), settings(repeats, 0.02), ScriptedPace(100)).prefill_ms.count == least


def test_time_or_rounds_end_a_measurement_that_gets_no_more_precise(monkeypatch):
    script = cycle([1.0, 2.0])
    monkeypatch.setattr(latency_module, "_warm_up", lambda *arguments: 1)
    monkeypatch.setattr(Generation, "prefill_ms", lambda self: next(script))
    monkeypatch.setattr(Generation, "all_ms", lambda self: [1.0] * 8)
    timed = latency(Recorder(), workload(11), settings(3, precision=0.02), ScriptedPace(100), clock=lambda: 0.0)
    assert (len(timed.rounds), timed.slowed) == (8 * 3, False)
    clock = count(0.0, 0.25)
    timed = latency(Recorder(), workload(11), settings(30, 0.02), ScriptedPace(100), clock=lambda: next(clock))
    assert len(timed.rounds) == 6
    assert timed.prefill_ms.precision > 0.02 > timed.decode_ms.precision


@pytest.mark.parametrize("chosen", [settings(8), first_protocol(8)])
def test_rounds_that_begin_or_end_slow_do_not_count(chosen):
    # Rounds lie between the figures: the second and third touch the slow moment, and two more replace them.
    pace = ScriptedPace(100, 100, 180, *[100] * 8, 900)
    timed = latency(Recorder(), workload(), chosen, pace)
    assert (len(timed.rounds), timed.slowed) == (8, False)
    assert pace.loop_ns() == 900


@pytest.mark.parametrize("chosen", [settings(7), first_protocol(7)])
def test_a_machine_that_stays_slow_is_told_and_its_best_rounds_are_kept(chosen, monkeypatch):
    monkeypatch.setattr(latency_module, "PAUSE_SECONDS", 0.0)
    timed = latency(Recorder(), workload(), chosen, ScriptedPace(180), clock=lambda: 0.0)
    assert (len(timed.rounds), timed.slowed) == (7, True)


def test_a_request_to_stop_is_heard_between_two_rounds():
    asked = iter([False, False, True])
    model = Recorder()
    with pytest.raises(MeasuringStopped):
        latency(model, workload(), settings(100), ScriptedPace(100), should_stop=lambda: next(asked))
    assert next(asked, None) is None


@pytest.mark.parametrize("prompt", [0, 6, 7])
def test_a_prompt_that_leaves_nothing_to_read_or_to_generate_is_refused(prompt):
    with pytest.raises(UsageError, match=f"a prompt of {prompt} tokens") as caught:
        workload(prompt=prompt)
    assert caught.value.where == "measure.prompt"
    assert "use 1 to 5" in caught.value.help


def test_quiet_restores_what_it_found_even_after_an_error():
    model = nn.Sequential(nn.Dropout(), nn.Dropout())
    model[1].eval()
    threads, collecting = torch.get_num_threads(), gc.isenabled()

    def fail() -> None:
        assert not model[0].training
        assert torch.get_num_threads() == threads + 1
        assert not gc.isenabled()
        assert torch.is_inference_mode_enabled()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), quiet(model, threads + 1):
        fail()
    assert [module.training for module in model.modules()] == [True, True, False]
    assert torch.get_num_threads() == threads
    assert gc.isenabled() == collecting
    assert not torch.is_inference_mode_enabled()


class Answerer(Recorder):
    """Reads a source, and holds what it writes alone."""

    def prefill(self, tokens_BT, state):
        self.calls.append(("prefill", int(tokens_BT[0, 0]), tokens_BT.size(1)))

    def decode_step(self, token_B, state):
        super().decode_step(token_B, state)
        return torch.zeros(len(token_B), 5).index_fill(1, torch.tensor([4]), 1.0)


def test_an_answer_is_written_whole_each_token_the_likeliest():
    model = Answerer()
    read = Workload(torch.arange(7).expand(2, -1), 3, answers=True)
    assert Generation(model, read).whole_ms() >= 0
    assert model.calls == [("prefill", 0, 3), ("decode", 3, 0), *[("decode", 4, held) for held in (1, 2, 3)]]


def test_of_an_answer_all_three_times_are_told():
    read = Workload(torch.arange(7).expand(2, -1), 3, answers=True)
    timed = latency(Answerer(), read, settings(6), ScriptedPace(100))
    assert (timed.decode_ms.count, timed.whole_ms.count) == (6 * 8, 6)
    assert set(timed.readings) == set(timed.measurements) == {"prefill_ms", "decode_ms_per_token", "generation_ms"}
    assert latency(Recorder(), workload(), settings(6), ScriptedPace(100)).whole_ms is None
