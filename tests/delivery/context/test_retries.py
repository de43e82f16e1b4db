"""How often, how long and for what a short transaction is tried again."""

from __future__ import annotations

import sqlite3
from datetime import timedelta

import pytest
from django.db import DatabaseError, IntegrityError, OperationalError, connections, transaction

from evermuse_outbox.delivery.context import retries, retry_on_database_error, retry_until


def trouble(name):
    error = OperationalError(name)
    error.__cause__ = sqlite3.OperationalError(name)
    error.__cause__.sqlite_errorname = name
    return error


BUSY, GONE, FULL = trouble("SQLITE_BUSY"), trouble("SQLITE_CANTOPEN"), trouble("SQLITE_FULL")


class Step:
    """Fails with each of the errors in turn, or with the last one for ever; then returns what it was given."""

    def __init__(self, *errors, ever=False):
        self.errors = list(errors)
        self.ever = ever
        self.tries = 0

    def __call__(self, given=None):
        self.tries += 1
        if self.errors:
            raise self.errors[0] if self.ever else self.errors.pop(0)
        return given


@pytest.fixture
def slept(clock, monkeypatch):
    """The pauses, each as long as it may be at most."""
    monkeypatch.setattr(retries, "full_jitter", lambda tries, base, cap: min(cap, base * 2 ** (tries - 1)))
    pauses = []
    move = clock.move
    monkeypatch.setattr(clock, "move", lambda seconds: (pauses.append(seconds), move(seconds)))
    return pauses


def test_trouble_of_the_moment_is_tried_again_with_growing_pauses(clock, slept):
    step = Step(BUSY, GONE, BUSY)
    assert retry_on_database_error("default", clock.clock(), step, "given") == "given"
    assert slept == [0.05, 0.1, 0.2]


def test_a_few_times(clock, slept):
    step = Step(BUSY, ever=True)
    with pytest.raises(OperationalError, match="SQLITE_BUSY"):
        retry_on_database_error("default", clock.clock(), step)
    assert step.tries == retries.MAX_ATTEMPTS


def test_and_not_for_long(clock, slept):
    step = Step(BUSY, ever=True)

    def waits_before_it_fails():
        clock.move(3)
        step()

    with pytest.raises(OperationalError):
        retry_on_database_error("default", clock.clock(), waits_before_it_fails)
    assert step.tries == 2


@pytest.mark.parametrize("error", [FULL, IntegrityError("a mistake"), ValueError("another")])
def test_nothing_else_is_tried_again(clock, slept, error):
    step = Step(error)
    with pytest.raises(type(error)):
        retry_on_database_error("default", clock.clock(), step)
    assert (step.tries, slept) == (1, [])


def test_what_would_be_lost_is_tried_until_shortly_before_the_end(clock, slept):
    until = clock.now() + timedelta(seconds=60)
    assert retry_until(until, "default", clock.clock(), Step(FULL, GONE, BUSY, FULL, FULL, FULL), 7) == 7
    step = Step(FULL, ever=True)
    with pytest.raises(OperationalError, match="SQLITE_FULL"):
        retry_until(until, "default", clock.clock(), step)
    assert 50 < 60 - (until - clock.now()).total_seconds() <= 60 - retries.LEASE_MARGIN
    assert step.tries > retries.MAX_ATTEMPTS


def test_with_no_time_left_it_is_tried_once(clock, slept):
    step = Step(BUSY, ever=True)
    with pytest.raises(OperationalError):
        retry_until(clock.now(), "default", clock.clock(), step)
    assert step.tries == 1


@pytest.mark.django_db(transaction=True)
def test_within_the_hosts_transaction_nothing_is_tried_again(clock, slept):
    step = Step(BUSY, ever=True)
    with pytest.raises(DatabaseError), transaction.atomic():
        retry_on_database_error("default", clock.clock(), step)
    transaction.set_autocommit(False)  # a transaction that the host manages by hand
    try:
        with pytest.raises(DatabaseError):
            retry_until(clock.now() + timedelta(60), "default", clock.clock(), step)
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert (step.tries, slept) == (2, [])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("error", "kept"), [(BUSY, True), (GONE, False), (FULL, False)])
def test_a_connection_that_may_be_the_trouble_is_not_kept(clock, slept, error, kept):
    connections["default"].ensure_connection()
    before = connections["default"].connection
    with pytest.raises(DatabaseError):
        retry_on_database_error("default", clock.clock(), Step(error, ever=True))
    assert (connections["default"].connection is before) == kept
