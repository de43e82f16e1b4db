"""The wait for a permit: first for the reserved slot, then for a permit, and never after a 429."""

from __future__ import annotations

import dataclasses

from evermuse_outbox.delivery.context import Clock
from evermuse_outbox.delivery.gates import permits
from evermuse_outbox.ratelimit import Admission, Reservation


class Scripted:
    """A slot so many seconds away, and then waits of these lengths until a permit is free."""

    def __init__(self, slot, *waits):
        self.slot = slot
        self.waits = list(waits)

    def reserve(self, patience):
        return Reservation(self.slot, self.slot <= patience)

    def acquire(self):
        return Admission(self.waits.pop(0), None) if self.waits else Admission(0.0, "permit")


class Sleeper:
    """A monotonic clock that only sleeping moves."""

    def __init__(self):
        self.at = 0.0

    def sleep(self, seconds):
        self.at += seconds

    def clock(self):
        return Clock(sleep=self.sleep, monotonic=lambda: self.at)


@dataclasses.dataclass
class FakeContext:
    throttle: Scripted
    clock: Clock


def acquire(slot, *waits):
    sleeper = Sleeper()
    return permits.acquire_permit(FakeContext(Scripted(slot, *waits), sleeper.clock())), sleeper.at


def test_the_permit_is_returned_at_the_reserved_slot():
    assert acquire(0.4) == ("permit", 0.4)


def test_it_waits_while_too_many_requests_may_be_under_way():
    assert acquire(0.5, 0.25, 0.125) == ("permit", 0.875)


def test_a_slot_reserved_before_a_429_is_not_used_after_it():
    assert acquire(0.5, 30) == (None, 0.5)


def test_a_slot_too_far_away_is_not_taken():
    assert acquire(60) == (None, 0)


def test_it_gives_up_if_no_permit_becomes_free():
    permit, at = acquire(0.5, *[0.5] * 50)
    assert permit is None
    assert at <= permits.MAX_PERMIT_WAIT
