"""Every way of telling a search to stop."""

import os
import signal
from types import SimpleNamespace

from nas.running import serial_executor as serial
from nas.running import stop_control
from nas.running.stop_control import Level, StopControl, request_stop, told_to_stop
from tests.running.tables import Launcher, settings


def test_requests_from_another_terminal_are_found(tmp_path):
    control = StopControl(tmp_path)
    assert control.level() is Level.GO
    request_stop(tmp_path, now=False)
    assert control.level() is Level.FINISH
    assert not told_to_stop(tmp_path)
    request_stop(tmp_path, now=True)
    assert control.level() is Level.NOW
    assert told_to_stop(tmp_path)


def test_a_request_left_behind_does_not_stop_the_next_launch(tmp_path):
    request_stop(tmp_path, now=True)
    assert StopControl(tmp_path).level() is Level.GO


def test_the_time_budget_ends_as_a_request_does_but_by_no_signal(tmp_path):
    control = StopControl(tmp_path, seconds=0)
    assert control.level() is Level.NOW
    assert control.signal is None


def test_ctrl_c_finishes_then_saves_and_sigterm_saves_at_once(tmp_path):
    levels = []
    control = StopControl(tmp_path, on_change=levels.append)
    former = signal.getsignal(signal.SIGINT)
    with control.signals():
        os.kill(os.getpid(), signal.SIGINT)
        assert (control.level(), control.signal) == (Level.FINISH, signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert control.level() is Level.NOW
    assert signal.getsignal(signal.SIGINT) is former
    assert levels == [Level.FINISH, Level.NOW]
    assert not told_to_stop(tmp_path)

    control = StopControl(tmp_path)
    with control.signals():
        os.kill(os.getpid(), signal.SIGTERM)
        assert (control.level(), control.signal) == (Level.NOW, signal.SIGTERM)


def test_stopping_now_puts_the_running_trial_back(tmp_path):
    launcher = Launcher(tmp_path, settings("constraints.0.max=100"))
    control = StopControl(tmp_path)

    def stop_at_the_second_rung(event):
        if event["type"] == "rung" and event["step"] == 100 and event["trial"] == 2:
            control.raise_to(Level.NOW)

    coordinator = launcher.coordinator(budget=10, observer=stop_at_the_second_rung)
    serial.run(coordinator, launcher.body, control)
    coordinator.close()
    states = [row.state.name for row in launcher.rows()]
    assert states == ["COMPLETE", "COMPLETE", "WAITING"]
    launcher.run(budget=10)
    assert set(launcher.disk.trained.values()) == {1}


def test_finishing_hands_out_nothing_new(tmp_path):
    launcher = Launcher(tmp_path, settings("constraints.0.max=100"))
    control = StopControl(tmp_path)
    coordinator = launcher.coordinator(budget=10, observer=lambda event: control.raise_to(Level.FINISH))
    serial.run(coordinator, launcher.body, control)
    assert [row.state.name for row in launcher.rows()] == ["COMPLETE"]


def test_a_closed_terminal_saves_and_stops_as_sigterm_does(tmp_path):
    control = StopControl(tmp_path)
    with control.signals():
        os.kill(os.getpid(), signal.SIGHUP)
        assert (control.level(), control.signal) == (Level.NOW, signal.SIGHUP)


def test_a_hangup_that_is_ignored_stays_ignored_as_nohup_wants(tmp_path):
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        control = StopControl(tmp_path)
        with control.signals():
            os.kill(os.getpid(), signal.SIGHUP)
            assert control.level() is Level.GO
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, former)


def test_sigterm_twice_at_once_is_one_request(tmp_path, monkeypatch):
    """`timeout` signals its child, and then the child's whole group. Later, a second one ends the driver at once."""
    now, exits = [100.0], []
    monkeypatch.setattr(stop_control, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(os, "_exit", exits.append)
    with StopControl(tmp_path).signals():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)
        assert exits == []
        now[0] += 10
        os.kill(os.getpid(), signal.SIGTERM)
        assert exits == [143]
