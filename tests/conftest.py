"""Fixtures that many tests share: the databases, the sandbox, and a delivery context with a clock of its own."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings as project
from django.db import connections

from evermuse_outbox.delivery.context import Clock, open_context
from evermuse_outbox.ratelimit import Admission, Reservation
from tests.models.state_changes import illegal_changes, start_recording, stop_recording
from tests.partition import mark_and_sort
from tests.process_state import restored_process_state
from tests.refusing_router import refuse_loads_at_first_use
from tests.services import HOW_TO_START, missing_services

refuse_loads_at_first_use()

ALIASES = ("default", "postgres", "mariadb")


def pytest_terminal_summary(terminalreporter):
    """Report each service that this machine does not have, in a line of its own."""
    for line in missing_services():
        terminalreporter.write_line(line, yellow=True)


def pytest_collection_modifyitems(items):
    """Mark what one version proves for all, and begin with the longest files."""
    mark_and_sort(items)


def pytest_generate_tests(metafunc):
    """Run a test with the argument ``alias`` once on each database; skip it where the database is missing."""
    if "alias" in metafunc.fixturenames:
        transaction = metafunc.definition.get_closest_marker("commits") is not None
        metafunc.parametrize("alias", [database_param(alias, transaction) for alias in ALIASES])


@pytest.fixture(autouse=True)
def process_state():
    """Leave to the next test of this process what this test has found: known secrets, timers, environment, language."""
    with restored_process_state():
        yield


def database_param(alias, transaction):
    """Return the pytest parameter of one database; ``transaction`` means that the test commits."""
    marks = [pytest.mark.django_db(transaction=transaction, databases=[alias, "default"])]
    if alias not in project.DATABASES:
        marks = [pytest.mark.skip(reason=f"no {alias}: {HOW_TO_START[alias]}")]
    return pytest.param(alias, id={"default": "sqlite"}.get(alias, alias), marks=marks)


@pytest.fixture
def only_legal_changes(alias):
    """Check after the test that it made only those changes of state that the models' transitions allow.

    SQLite alone records them; the code that makes them is the same on every database.
    """
    if connections[alias].vendor != "sqlite":
        yield
        return
    start_recording(alias)
    yield
    assert illegal_changes(stop_recording(alias)) == set()


@pytest.fixture
def analyze(alias):
    """Return a function that updates the planner's statistics of a table, in a test that commits.

    SQLite keeps them when the rows are gone, and would choose other indexes in the tests that follow.
    """
    connection = connections[alias]

    def update(table):
        with connection.cursor() as cursor:
            cursor.execute(f"ANALYZE {'TABLE' if connection.vendor == 'mysql' else ''} {table}")

    yield update
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM sqlite_stat1")
            cursor.execute("ANALYZE sqlite_master")  # so that this connection reads them again


class FreeThrottle:
    """A throttle that gives each slot and permit at once, until it is blocked. It counts the slots."""

    def __init__(self):
        self.slots = 0
        self.blocked_for = 0.0

    def wait(self):
        return self.blocked_for

    def reserve(self, patience):
        if self.blocked_for:
            return Reservation(self.blocked_for, taken=False)
        self.slots += 1
        return Reservation(0.0, taken=True)

    def acquire(self):
        return Admission(self.blocked_for, None) if self.blocked_for else Admission(0.0, "permit")

    def release(self, permit, *, is_comparable):
        pass

    def block(self, seconds):
        self.blocked_for = seconds

    def unblock(self):
        self.blocked_for = 0.0


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self):
        self.at = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def now(self):
        return self.at

    def move(self, seconds):
        self.at += timedelta(seconds=seconds)

    def monotonic(self):
        return self.at.timestamp()

    def clock(self):
        return Clock(now=self.now, sleep=self.move, monotonic=self.monotonic)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def sandbox(clock):
    """A sandbox over real HTTP that uses the test's clock and never throttles."""
    from evermuse_outbox.sandbox import Sandbox

    with Sandbox(rate_limit=100_000, clock=lambda: clock.at.timestamp()) as running:
        yield running


@pytest.fixture
def outbox_settings(settings):
    """Return a function that changes keys of EVERMUSE_OUTBOX for one test."""

    def change(**keys):
        settings.EVERMUSE_OUTBOX = project.EVERMUSE_OUTBOX | keys

    return change


@pytest.fixture
def context(alias, sandbox, clock, outbox_settings):
    """A delivery context of the default workspace on one database: the sandbox, the test's clock, and no rate limit."""
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox")
    opened = open_context(alias, "default")
    yield dataclasses.replace(opened, throttle=FreeThrottle(), clock=clock.clock())
    opened.client.close()


@pytest.fixture
def reopen(context):
    """Return a function that opens the delivery context again after the settings were changed."""

    def open_again():
        fresh = open_context(context.using, context.workspace_name)
        return dataclasses.replace(fresh, throttle=context.throttle, clock=context.clock)

    return open_again
