"""Waits are told at once, and then now and then."""

from nas.cli.waits import AGAIN_SECONDS, Waits

RAY = {"type": "waiting", "for": "ray", "since": 100.0}
DEVICE = {"type": "waiting", "for": "device", "since": 101.0}


def test_each_kind_of_wait_is_told_at_once_and_again_now_and_then():
    now = [100.0]
    waits = Waits(lambda: now[0])
    assert waits.take(RAY) == "waiting: Ray starts"
    now[0] = 103.0
    assert waits.take(DEVICE | {"trial": 4}) == "waiting (2 s): trial 4: another measurement has the device"
    assert waits.take(DEVICE | {"trial": 5}) == ""
    now[0] += AGAIN_SECONDS
    assert waits.take(DEVICE | {"trial": 4}).startswith(f"waiting ({int(now[0] - 101)} s)")


def test_a_panel_shows_what_lasts_until_something_else_is_told_of_it():
    waits = Waits(lambda: 110.0)
    waits.take(RAY)
    waits.take(DEVICE | {"trial": 4})
    assert waits.lines() == ["waiting (10 s): Ray starts", "waiting (9 s): trial 4: another measurement has the device"]
    assert waits.take({"type": "measured", "trial": 4}) == ""
    assert waits.lines() == []
