"""The wait for a permit: first for the reserved slot, then for a permit, and never after a 429."""

from __future__ import annotations

import dataclasses

import pytest

from evermuse_outbox.delivery.context import Clock
from evermuse_outbox.delivery.gates import call_with_permit, is_crowded, permits
from evermuse_outbox.evermuse import Unreachable
from evermuse_outbox.evermuse.api import Answer
from evermuse_outbox.ratelimit import Admission, Reservation, ThrottleUnavailable


class ScriptedThrottle:
    """A throttle with its next slot in ``slot`` seconds. Then a permit is free after the given ``waits``."""

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
        return Clock(lambda: None, sleep=self.sleep, monotonic=lambda: self.at)


class FakeClient:
    """A client whose connection is not open at first."""

    def __init__(self, *, has_connected=False):
        self.is_connected = False
        self.has_connected = has_connected

    def connect(self):
        self.is_connected = True


@dataclasses.dataclass
class FakeContext:
    throttle: ScriptedThrottle
    clock: Clock
    client: FakeClient = dataclasses.field(default_factory=FakeClient)

    def log_ids(self):
        return {}


def acquire(slot, *waits):
    """Acquire a permit. Return it and the seconds that it took."""
    sleeper = Sleeper()
    return permits.acquire_permit(FakeContext(ScriptedThrottle(slot, *waits), sleeper.clock())), sleeper.at


def test_the_permit_is_returned_at_the_reserved_slot():
    assert acquire(0.4) == ("permit", 0.4)


def test_the_connection_is_open_before_the_permit_is_acquired():
    context = FakeContext(ScriptedThrottle(0), Clock(lambda: None))
    was_connected = []
    context.throttle.acquire = lambda: (
        was_connected.append(context.client.is_connected) or Admission(0.0, "p")
    )
    assert permits.acquire_permit(context) == "p"
    assert was_connected == [True]


def test_the_wait_continues_while_too_many_requests_may_be_in_flight():
    assert acquire(0.5, 0.25, 0.125) == ("permit", 0.875)


def test_a_slot_reserved_before_a_429_is_not_used_after_it():
    assert acquire(0.5, 30) == (None, 0.5)


def test_a_slot_too_far_away_is_not_taken():
    assert acquire(60) == (None, 0)


def test_the_wait_ends_if_no_permit_becomes_free():
    permit, at = acquire(0.5, *[0.5] * 50)
    assert permit is None
    assert at <= permits.MAX_PERMIT_WAIT


# --- the request --------------------------------------------------------------------------------------


class RecordingThrottle:
    """A throttle that records its calls and, if it is down, answers none of them."""

    def __init__(self, *, is_down=False):
        self.is_down = is_down
        self.calls = []

    def block(self, seconds):
        self._record("block", seconds)

    def release(self, permit, *, is_comparable):
        self._record("release", permit, is_comparable)

    def _record(self, *call):
        self.calls.append(call)
        if self.is_down:
            raise ThrottleUnavailable("no answer")


def call(throttle, answer, *, is_send=True, has_connected=False):
    """Make a request that returns or raises ``answer``, under a permit."""

    def request():
        if isinstance(answer, Exception):
            raise answer
        return answer

    context = FakeContext(throttle, Clock(lambda: None), FakeClient(has_connected=has_connected))
    return call_with_permit(context, "permit", request, is_send=is_send)


OK = Answer(202, b"{}", 0.1)
TOO_MANY = Answer(429, b'{"error": "E", "message": "m", "retryAfter": 30}', 0.1)


def test_the_permit_is_released_after_the_answer():
    throttle = RecordingThrottle()
    assert call(throttle, OK) is OK
    assert throttle.calls == [("release", "permit", True)]


@pytest.mark.parametrize(("is_send", "has_connected"), [(False, False), (True, True)])
def test_a_read_and_a_request_that_opened_its_connection_teach_no_latency(is_send, has_connected):
    throttle = RecordingThrottle()
    call(throttle, OK, is_send=is_send, has_connected=has_connected)
    assert throttle.calls == [("release", "permit", False)]


def test_the_permit_is_released_if_the_request_fails():
    throttle = RecordingThrottle()
    with pytest.raises(Unreachable):
        call(throttle, Unreachable("refused"))
    assert throttle.calls == [("release", "permit", True)]


def test_a_429_blocks_the_throttle_before_the_permit_is_released():
    throttle = RecordingThrottle()
    assert call(throttle, TOO_MANY) is TOO_MANY
    assert throttle.calls == [("block", 30), ("release", "permit", True)]


def test_an_answer_is_returned_even_if_the_throttle_backend_is_down():
    throttle = RecordingThrottle(is_down=True)
    assert call(throttle, TOO_MANY) is TOO_MANY
    assert throttle.calls == [("block", 30), ("release", "permit", True)]


@pytest.mark.parametrize(
    ("wait", "expected"), [(0.0, False), (permits.CROWDED, False), (permits.CROWDED + 1, True)]
)
def test_senders_are_crowded_if_the_next_permit_is_far_away(wait, expected):
    class WaitingThrottle:
        def wait(self):
            return wait

    assert is_crowded(FakeContext(WaitingThrottle(), Clock(lambda: None))) is expected
