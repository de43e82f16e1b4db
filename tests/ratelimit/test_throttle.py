"""What all throttles share: the second attempt after a slow answer, and the fingerprint of a key."""

from __future__ import annotations

import pytest

from evermuse_outbox.evermuse import EvermuseError
from evermuse_outbox.ratelimit import (
    SLOW_BACKEND,
    Admission,
    ThrottleUnavailable,
    acquire_again_if_slow,
    key_fingerprint,
    new_permit_id,
)

REFUSED = Admission(0.5, None)


def first_permit(*answers):
    """Return the admission, and how many of the (admission, seconds) answers were used."""
    left = list(answers)
    return acquire_again_if_slow(lambda: left.pop(0)), len(answers) - len(left)


@pytest.mark.parametrize("seconds", [0, SLOW_BACKEND])
def test_a_permit_in_time_is_used(seconds):
    assert first_permit((Admission(0, "a"), seconds)) == (Admission(0, "a"), 1)


def test_a_late_permit_is_replaced():
    assert first_permit((Admission(0, "a"), 2 * SLOW_BACKEND), (Admission(0, "b"), 0)) == (
        Admission(0, "b"),
        2,
    )


def test_a_second_late_permit_is_used():
    late = 2 * SLOW_BACKEND
    assert first_permit((Admission(0, "a"), late), (Admission(0, "b"), late)) == (Admission(0, "b"), 2)


def test_a_late_permit_is_not_used_if_the_second_attempt_is_refused():
    assert first_permit((Admission(0, "a"), 2 * SLOW_BACKEND), (REFUSED, 0)) == (REFUSED, 2)


def test_a_late_refusal_is_final():
    assert first_permit((REFUSED, 2 * SLOW_BACKEND)) == (REFUSED, 1)


def test_the_fingerprint_does_not_show_the_key():
    assert "em_sk" not in key_fingerprint("https://api.evermuse.com", "em_sk_secret")
    assert key_fingerprint("https://a", "k") != key_fingerprint("https://b", "k")


def test_permits_have_different_ids():
    assert len({new_permit_id() for _ in range(100)}) == 100


def test_an_unavailable_throttle_is_an_error_of_the_package():
    assert issubclass(ThrottleUnavailable, EvermuseError)
