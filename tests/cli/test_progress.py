"""What the live panel shows of a search, and what it computes for that."""

import io

import moocore
import pytest
from rich.console import Console

from nas.bench.formulas import Formulas
from nas.cli import progress as progress_module
from nas.cli.live_panel import LivePanel
from nas.cli.progress import Progress

COUNTS = {"trained": 2}
ARCHITECTURE = {"hidden": 32, "blocks": [{"attention": {"kind": "linear", "heads": 1}}]}


@pytest.fixture
def terminal(monkeypatch) -> io.StringIO:
    written = io.StringIO()
    monkeypatch.setattr(progress_module, "people", lambda: Console(file=written, force_terminal=True, width=200))
    return written


def study(values: list[list[float]]) -> dict:
    return {"type": "study", "name": "s", "budget": 9, "counts": COUNTS, "values": values, "folder": "runs/s"}


def finished(number: int, *values: float) -> dict:
    metrics = dict(zip(("val_loss", "decode_ms_per_token", "peak_inference_mib"), values, strict=True))
    return {
        "type": "finished",
        "trial": number,
        "state": "COMPLETE",
        "reason": "",
        "metrics": metrics,
        "violations": {},
        "counts": COUNTS,
    }


def test_the_panel_tells_the_front_and_computes_its_hypervolume_once_a_result(terminal, monkeypatch):
    computed: list[int] = []
    original = moocore.hypervolume
    monkeypatch.setattr(moocore, "hypervolume", lambda rows, ref: computed.append(len(rows)) or original(rows, ref=ref))
    with Progress(Formulas().file, json=False, live=True) as progress:
        progress(study([[3.0, 1.0, 5.0], [2.0, 2.0, 5.0], [4.0, 4.0, 9.0]]))
        for _ in range(5):
            progress._live.refresh()
        progress(finished(3, 1.0, 3.0, 5.0))
        for _ in range(5):
            progress._live.refresh()
    assert "2 members, hypervolume" in terminal.getvalue()
    assert "3 members, hypervolume" in terminal.getvalue()
    assert "best val_loss 1, decode_ms_per_token 1, peak_inference_mib 5" in terminal.getvalue()
    assert max(computed) <= 3  # the front alone
    assert len(computed) <= 3  # a refresh may come between two lines


@pytest.mark.parametrize("live", [True, False])
def test_a_changed_budget_is_told_with_and_without_the_panel(terminal, live):
    with Progress(Formulas().file, json=False, live=live) as progress:
        progress({"type": "budget", "budget": 8, "before": 24})
    assert "the budget is lowered from" in terminal.getvalue()


def test_a_narrower_terminal_keeps_no_line_of_the_wider_panel():
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=40, height=30)
    panel = LivePanel(lambda: "x" * 35 + "\n" + "y" * 18, console)
    panel.start(refresh=True)
    written.truncate(written.seek(0))
    console.width = 20
    panel.refresh()
    narrowed = written.getvalue()
    written.truncate(written.seek(0))
    panel.refresh()
    again = written.getvalue()
    panel.stop()
    up = "\x1b[1A"
    assert narrowed.count(up) == 2  # 35 characters fill two rows of 20, and 18 one
    assert again.count(up) == 2  # three lines, as it is written now
