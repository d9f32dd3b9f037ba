"""`nas.search` and `nas.resume`: as the command, in a thread, with an observer."""

import threading

import pytest

import nas
from nas.running import driver

pytestmark = pytest.mark.slow
FREE = ("train_seconds", "tokens_per_second", "contended")


def rows(study: nas.Study) -> list[tuple]:
    """What has to be equal of each trial: everything that no clock measures."""
    return [
        (
            t.number,
            t.state,
            t.reason,
            t.architecture_id,
            dict(t.params),
            dict(t.predicted),
            {name: value for name, value in t.metrics.items() if exact(name)},
            [(r.step, r.metrics["val_loss"]) for r in t.rungs],
        )
        for t in study.trials()
    ]


def exact(name: str) -> bool:
    return not name.startswith(("prefill_ms", "decode_ms", "energy", *FREE))


def test_the_command_and_the_call_give_equal_rows(file, monkeypatch):
    from nas.cli.__main__ import main

    monkeypatch.setattr(
        "sys.argv", ["nas", "search", str(file), "--study", "by_command", "--executor", "serial", "--trials", "4"]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    called = nas.search(file, study="by_call", executor="serial", trials=4)
    assert rows(called) == rows(nas.open_study("by_command"))
    assert (called.end, called.name) == ("the budget is reached", "by_call")


def test_an_observer_is_told_and_nothing_is_printed(file, capfd):
    events = []
    study = nas.search(nas.load(file, ["train.steps=2"]), executor="serial", observer=events.append)
    kinds = [event["type"] for event in events]
    assert kinds[:3] == ["study", "started", "measured"]
    assert kinds.count("finished") == 2
    assert study.status()["trained"] == 2
    assert capfd.readouterr() == ("", "")


def test_an_observer_that_raises_stops_the_search_and_nothing_is_lost(file):
    def fragile(event):
        if event["type"] == "rung":
            raise RuntimeError("my own fault")

    with pytest.raises(RuntimeError, match="my own fault"):
        nas.search(file, executor="serial", observer=fragile)
    study = nas.open_study("exact")
    assert study.status()["states"] == {"WAITING": {"": 1}}
    assert nas.resume(study, executor="serial").status()["trained"] == 2


def test_in_a_thread_it_searches_and_is_stopped_from_outside(file):
    begun, told = threading.Event(), []

    def observer(event):
        if event["type"] == "rung":
            begun.set()

    def search():
        told.append(nas.search(file, executor="serial", trials=1000, observer=observer))

    thread = threading.Thread(target=search)
    thread.start()
    assert begun.wait(60)
    study = nas.open_study("exact")
    assert study.status()["running"]
    study.stop(now=True)
    thread.join(60)
    assert not thread.is_alive()
    assert told[0].end is None
    trained = told[0].status()["trained"]
    assert nas.resume("exact", executor="serial", trials=trained + 1).status()["trained"] == trained + 1


def test_stopping_what_does_not_run_is_a_conflict(study):
    with pytest.raises(nas.Conflict, match="is not running"):
        study.stop()


@pytest.mark.parametrize(
    ("options", "where", "told"),
    [
        ({"trials": 0}, "trials", "trials must be above 0"),
        ({"cpus": float("nan")}, "cpus", "cpus must be above 0"),
        ({"executor": "dask"}, "executor", "unknown executor 'dask'"),
        ({"max_fail_rate": 2}, "max_fail_rate", "must be from 0 to 1"),
        ({"time": "soon"}, "time", "expected a duration"),
        ({"time": float("nan")}, "time", "a time must be above 0"),
        ({"study": "a/b"}, "", "a name is letters"),
    ],
)
def test_what_cannot_be_is_an_error_with_the_parameters_name(file, options, where, told):
    with pytest.raises(nas.UsageError, match=told) as caught:
        nas.search(file, **options)
    assert where in caught.value.where
    assert not (file.parent / "runs").exists()


def test_an_end_with_nothing_on_the_front_is_an_error(file):
    narrow = nas.load(file, ['constraints=[{metric="val_loss", max=0.001}]'])
    with pytest.raises(nas.NothingFeasible):
        nas.search(narrow, executor="serial")


def test_a_signal_saves_first_and_then_reaches_the_program(file):
    import signal

    def interrupt(event):
        if event["type"] == "rung":
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as caught:
        nas.search(file, executor="serial", observer=interrupt)
    assert "nas.resume('exact') continues" in caught.value.__notes__[0]
    assert signal.getsignal(signal.SIGINT) is before
    assert nas.open_study("exact").status()["states"] == {"WAITING": {"": 1}}


def test_a_driver_may_be_watched_by_nobody(file):
    outcome = driver.run(nas.load(file), file.parent / "runs" / "exact", driver.Launch(executor="serial"))
    assert outcome.end is not None
