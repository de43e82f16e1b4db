"""The pauses between two looks at a database."""

from __future__ import annotations

import pytest

from evermuse_outbox.delivery.loop.pace import (
    FULL_LOOK_INTERVAL,
    LOOK_INTERVAL,
    LOOK_SHARE,
    MAX_PAUSE,
    RECENT_LOOKS,
    Look,
    Pace,
)


def looks(made, look, seconds, count=1, started=0.0):
    """Note ``count`` looks that took so many seconds each. Return the pause after the last one."""
    for _ in range(count):
        pause = made.pause_after(look, started, started + seconds)
    return pause


@pytest.mark.parametrize("look", Look)
def test_quick_looks_follow_each_other_after_the_minimum(look):
    assert looks(Pace(), look, 0.0005) == LOOK_INTERVAL


@pytest.mark.parametrize("look", [Look.QUICK, Look.PENDING])
def test_looks_take_a_small_share_of_the_time(look):
    assert looks(Pace(), look, 0.01) == pytest.approx(0.01 * LOOK_SHARE)
    assert looks(Pace(), look, 10.0) == MAX_PAUSE


def test_one_long_look_delays_nothing():
    made = Pace()
    looks(made, Look.QUICK, 0.0005)
    assert looks(made, Look.QUICK, 0.5, count=RECENT_LOOKS - 1) == LOOK_INTERVAL
    assert looks(made, Look.QUICK, 0.5) == MAX_PAUSE  # the short one is too long ago


def test_a_slow_full_look_delays_the_next_full_look_and_not_the_quick_ones():
    made = Pace()
    assert made.is_full_look_due(0.0)
    looks(made, Look.QUICK, 0.0005)
    assert looks(made, Look.FULL, 0.02, started=7.0) == LOOK_INTERVAL
    assert not made.is_full_look_due(7.0 + FULL_LOOK_INTERVAL)
    assert made.is_full_look_due(7.0 + 0.02 * LOOK_SHARE + 0.001)


def test_the_next_full_look_is_due_after_its_interval():
    made = Pace()
    looks(made, Look.PENDING, 0.0005, started=7.0)
    assert not made.is_full_look_due(7.0 + FULL_LOOK_INTERVAL - 0.001)
    assert made.is_full_look_due(7.0 + FULL_LOOK_INTERVAL)
