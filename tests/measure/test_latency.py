"""Which tokens are timed, in which order, and which readings count. The durations themselves are never looked at."""

import gc

import pytest
import torch
from torch import nn

from nas.errors import UsageError
from nas.measure.latency import Generation, MeasuringStopped, Workload, latency, quiet


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


@pytest.mark.parametrize(("context", "steps"), [(6, 8), (203, 40)])
def test_each_round_is_a_prefill_and_a_burst_and_a_long_generation_is_finished(context, steps):
    timed = latency(Recorder(), workload(context), repeats=5, pace=ScriptedPace(100))
    assert (timed.prefill_ms.count, timed.decode_ms.count, timed.slowed) == (5, 5 * steps, False)


def test_rounds_that_begin_or_end_slow_do_not_count():
    # Rounds lie between the figures: the second and third touch the slow moment, and two more replace them.
    pace = ScriptedPace(100, 100, 180, 100, 100, 100, 900)
    timed = latency(Recorder(), workload(), repeats=3, pace=pace)
    assert (timed.prefill_ms.count, timed.slowed) == (3, False)
    assert pace.loop_ns() == 900


def test_a_machine_that_stays_slow_is_told_and_its_best_rounds_are_kept():
    timed = latency(Recorder(), workload(), repeats=3, pace=ScriptedPace(180))
    assert (timed.prefill_ms.count, timed.slowed) == (3, True)


def test_a_request_to_stop_is_heard_between_two_rounds():
    asked = iter([False, False, True])
    model = Recorder()
    with pytest.raises(MeasuringStopped):
        latency(model, workload(), repeats=100, pace=ScriptedPace(100), should_stop=lambda: next(asked))
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
    timed = latency(Answerer(), read, repeats=5, pace=ScriptedPace(100))
    assert (timed.prefill_ms.count, timed.decode_ms.count, timed.whole_ms.count) == (5, 40, 5)
    assert latency(Recorder(), workload(), repeats=5, pace=ScriptedPace(100)).whole_ms is None
