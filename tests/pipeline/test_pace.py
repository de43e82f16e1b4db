"""The wait for a slot: what is late is let go, what was held meanwhile is not used."""

from __future__ import annotations

import dataclasses

from evermuse_outbox.evermuse.throttle import Grant
from evermuse_outbox.pipeline import pace
from evermuse_outbox.pipeline.channel import Clock


class Scripted:
    """Gives the waits it was told, and is held when told so."""

    def __init__(self, *waits, held=0.0):
        self.waits = list(waits)
        self._held = held

    def reserve(self, patience):
        wait = self.waits.pop(0)
        return Grant(wait, wait <= patience)

    def held(self):
        return self._held


class Sleeper:
    """A monotonic clock; some sleeps last longer than asked."""

    def __init__(self, *oversleeps):
        self.at = 0.0
        self.oversleeps = list(oversleeps)

    def sleep(self, seconds):
        self.at += seconds + (self.oversleeps.pop(0) if self.oversleeps else 0)

    def clock(self):
        return Clock(sleep=self.sleep, monotonic=lambda: self.at)


@dataclasses.dataclass
class FakeChannel:
    throttle: Scripted
    clock: Clock


def test_it_returns_at_the_slot():
    sleeper = Sleeper()
    assert pace.wait_for_slot(FakeChannel(Scripted(0.4), sleeper.clock()))
    assert sleeper.at == 0.4


def test_a_slot_met_late_is_let_go_for_the_next():
    sleeper, throttle = Sleeper(0.2), Scripted(0.4, 0.1)
    assert pace.wait_for_slot(FakeChannel(throttle, sleeper.clock()))
    assert throttle.waits == []
    assert sleeper.at == 0.4 + 0.2 + 0.1


def test_a_slot_given_out_before_a_429_is_not_used_after_it():
    assert not pace.wait_for_slot(FakeChannel(Scripted(0.4, held=30), Sleeper().clock()))


def test_who_would_wait_too_long_gives_up():
    assert not pace.wait_for_slot(FakeChannel(Scripted(60), Sleeper().clock()))


def test_one_who_always_comes_late_gives_up_in_the_end():
    always_late = Sleeper(*[1.0] * 50)
    assert not pace.wait_for_slot(FakeChannel(Scripted(*[0.1] * 50), always_late.clock()))
