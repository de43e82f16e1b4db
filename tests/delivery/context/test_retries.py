"""Retries of a short transaction: how often, for how long, and after which errors."""

from __future__ import annotations

import sqlite3
from datetime import timedelta

import pytest
from django.db import DatabaseError, IntegrityError, OperationalError, connections, transaction

from evermuse_outbox.delivery.context import retries, retry_on_database_error, retry_until


def sqlite_error(name):
    """Return the error that Django raises for SQLite's error of this name."""
    error = OperationalError(name)
    error.__cause__ = sqlite3.OperationalError(name)
    error.__cause__.sqlite_errorname = name
    return error


BUSY, GONE, FULL = map(sqlite_error, ("SQLITE_BUSY", "SQLITE_CANTOPEN", "SQLITE_FULL"))


class Step:
    """Raises each of the errors in turn, or the first one forever, and then returns its argument."""

    def __init__(self, *errors, forever=False):
        self.errors = list(errors)
        self.forever = forever
        self.tries = 0

    def __call__(self, argument=None):
        self.tries += 1
        if self.errors:
            raise self.errors[0] if self.forever else self.errors.pop(0)
        return argument


@pytest.fixture
def pauses(clock, monkeypatch):
    """Make each pause as long as its maximum, and return the list of pauses."""
    monkeypatch.setattr(retries, "full_jitter", lambda tries, base, cap: min(cap, base * 2 ** (tries - 1)))
    slept = []
    move = clock.move
    monkeypatch.setattr(clock, "move", lambda seconds: (slept.append(seconds), move(seconds)))
    return slept


def test_a_step_is_tried_again_after_transient_errors_with_growing_pauses(clock, pauses):
    step = Step(BUSY, GONE, BUSY)
    assert retry_on_database_error("default", clock.clock(), step, "result") == "result"
    assert pauses == [0.05, 0.1, 0.2]


def test_a_step_is_tried_a_limited_number_of_times(clock, pauses):
    step = Step(BUSY, forever=True)
    with pytest.raises(OperationalError, match="SQLITE_BUSY"):
        retry_on_database_error("default", clock.clock(), step)
    assert step.tries == retries.MAX_ATTEMPTS


def test_a_step_is_tried_for_a_limited_time(clock, pauses):
    step = Step(BUSY, forever=True)

    def wait_and_fail():
        clock.move(3)
        step()

    with pytest.raises(OperationalError):
        retry_on_database_error("default", clock.clock(), wait_and_fail)
    assert step.tries == 2


@pytest.mark.parametrize("error", [FULL, IntegrityError("a mistake"), ValueError("another")])
def test_other_errors_are_raised_at_once(clock, pauses, error):
    step = Step(error)
    with pytest.raises(type(error)):
        retry_on_database_error("default", clock.clock(), step)
    assert (step.tries, pauses) == (1, [])


def test_a_step_that_must_not_be_lost_is_tried_until_shortly_before_the_deadline(clock, pauses):
    until = clock.now() + timedelta(seconds=60)
    assert retry_until(until, "default", clock.clock(), Step(FULL, GONE, BUSY, FULL, FULL, FULL), 7) == 7
    step = Step(FULL, forever=True)
    with pytest.raises(OperationalError, match="SQLITE_FULL"):
        retry_until(until, "default", clock.clock(), step)
    assert 50 < 60 - (until - clock.now()).total_seconds() <= 60 - retries.LEASE_MARGIN
    assert step.tries > retries.MAX_ATTEMPTS


def test_a_step_is_tried_once_if_no_time_is_left(clock, pauses):
    step = Step(BUSY, forever=True)
    with pytest.raises(OperationalError):
        retry_until(clock.now(), "default", clock.clock(), step)
    assert step.tries == 1


@pytest.mark.django_db(transaction=True)
def test_a_step_is_not_tried_again_within_the_transaction_of_the_host(clock, pauses):
    step = Step(BUSY, forever=True)
    with pytest.raises(DatabaseError), transaction.atomic():
        retry_on_database_error("default", clock.clock(), step)
    transaction.set_autocommit(False)  # a transaction that the host manages by hand
    try:
        with pytest.raises(DatabaseError):
            retry_until(clock.now() + timedelta(60), "default", clock.clock(), step)
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert (step.tries, pauses) == (2, [])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("error", "kept"), [(BUSY, True), (GONE, False), (FULL, False)])
def test_a_connection_that_may_be_broken_is_not_kept(clock, pauses, error, kept):
    connections["default"].ensure_connection()
    before = connections["default"].connection
    with pytest.raises(DatabaseError):
        retry_on_database_error("default", clock.clock(), Step(error, forever=True))
    assert (connections["default"].connection is before) == kept
