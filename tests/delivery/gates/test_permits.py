"""The wait for a slot: in line for a slot, then at the door, and never past a hold."""

from __future__ import annotations

import dataclasses

from evermuse_outbox.delivery.context import Clock
from evermuse_outbox.delivery.gates import permits as pace
from evermuse_outbox.ratelimit.throttle import Entry, Reservation


class Scripted:
    """A slot that far away, and then those waits at the door until it opens."""

    def __init__(self, slot, *doors):
        self.slot = slot
        self.doors = list(doors)

    def reserve(self, patience):
        return Reservation(self.slot, self.slot <= patience)

    def enter(self):
        return Entry(self.doors.pop(0), None) if self.doors else Entry(0.0, "visit")


class Sleeper:
    """A monotonic clock that only sleeping moves."""

    def __init__(self):
        self.at = 0.0

    def sleep(self, seconds):
        self.at += seconds

    def clock(self):
        return Clock(sleep=self.sleep, monotonic=lambda: self.at)


@dataclasses.dataclass
class FakeChannel:
    throttle: Scripted
    clock: Clock


def waited(slot, *doors):
    sleeper = Sleeper()
    return pace.acquire_permit(FakeChannel(Scripted(slot, *doors), sleeper.clock())), sleeper.at


def test_it_returns_at_the_slot():
    assert waited(0.4) == ("visit", 0.4)


def test_it_waits_at_the_door_while_too_many_may_be_inside():
    assert waited(0.5, 0.25, 0.125) == ("visit", 0.875)


def test_a_slot_given_out_before_a_429_is_not_used_after_it():
    assert waited(0.5, 30) == (None, 0.5)


def test_who_would_wait_too_long_gives_up():
    assert waited(60) == (None, 0)


def test_one_who_is_never_let_in_gives_up_in_the_end():
    permit, at = waited(0.5, *[0.5] * 50)
    assert permit is None
    assert at <= pace.MAX_PERMIT_WAIT
