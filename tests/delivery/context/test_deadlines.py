"""Every statement of a worker ends at its deadline, on real connections to each server."""

from __future__ import annotations

import importlib
import io
import pkgutil
import threading
from contextlib import contextmanager

import pytest
from django.core.management import call_command
from django.db import OperationalError, connections, transaction

from evermuse_outbox import outbox, tasks
from evermuse_outbox.delivery.context import (
    DatabaseErrorKind,
    DatabaseThrottle,
    classify_database_error,
    open_context,
    statement_deadlines,
)
from evermuse_outbox.management import commands
from evermuse_outbox.management.commands import outbox_relay
from evermuse_outbox.models import OutboxRecord, OutboxThrottle, OutboxWorkspace
from evermuse_outbox.ratelimit import Limit, ThrottleUnavailable
from evermuse_outbox.sandbox import Sandbox
from evermuse_outbox.upkeep import maintain_all
from tests.delivery.helpers import batches
from tests.records import enqueue, record

pytestmark = pytest.mark.commits

LEASE = 2.0
"""Seconds. A quarter of it is the deadline: long for a healthy statement, short for a test."""

SHOW = {"postgresql": "SELECT current_setting('statement_timeout')", "mysql": "SELECT @@max_statement_time"}
SLEEP = {"postgresql": "SELECT pg_sleep(30)", "mysql": "SELECT SLEEP(30)"}
SET = {"postgresql": "500ms", "mysql": 0.5}
UNSET = {"postgresql": "0", "mysql": 0}


def fetch(alias, sql):
    with connections[alias].cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


@pytest.fixture
def vendor(alias):
    vendor = connections[alias].vendor
    if vendor == "sqlite":
        pytest.skip("SQLite waits only for its write lock, and has a limit for that")
    return vendor


@pytest.fixture
def short_lease(alias, outbox_settings):
    """Settings with a short deadline, and a sandbox."""
    with Sandbox(rate_limit=100_000) as sandbox:
        outbox_settings(
            API_URL=sandbox.url, API_KEY="em_sk_sandbox", DATABASES=[alias], LEASE=LEASE, TIMEOUT=0.5
        )
        yield sandbox


@contextmanager
def locked_by_another_session(alias, lock):
    """Hold a lock in a transaction of another thread. ``lock`` takes it."""
    is_locked, may_end = threading.Event(), threading.Event()

    def hold():
        try:
            with transaction.atomic(using=alias):
                lock()
                is_locked.set()
                may_end.wait(60)
        finally:
            connections.close_all()

    thread = threading.Thread(target=hold)
    thread.start()
    assert is_locked.wait(20)
    try:
        yield
    finally:
        may_end.set()
        thread.join()


def test_a_statement_ends_at_its_deadline_alone_and_in_a_transaction(alias, vendor, short_lease):
    with statement_deadlines():
        assert fetch(alias, SHOW[vendor]) == SET[vendor]
        for is_in_transaction in (False, True):
            with pytest.raises(OperationalError) as raised:
                if is_in_transaction:
                    with transaction.atomic(using=alias):
                        OutboxRecord.rows.using(alias).exists()
                        fetch(alias, SLEEP[vendor])
                else:
                    fetch(alias, SLEEP[vendor])
            assert classify_database_error(raised.value) is DatabaseErrorKind.CONFLICT


def test_the_host_keeps_its_settings_on_the_same_connection(alias, vendor, short_lease):
    with statement_deadlines():
        with statement_deadlines(), transaction.atomic(using=alias):
            assert fetch(alias, SHOW[vendor]) == SET[vendor]
        assert fetch(alias, SHOW[vendor]) == SET[vendor]
    assert fetch(alias, SHOW[vendor]) == UNSET[vendor]
    outbox.enqueue(record(1), using=alias)
    assert fetch(alias, SHOW[vendor]) == UNSET[vendor]


def test_statements_return_the_same_as_without_a_deadline(alias, vendor, short_lease):
    with statement_deadlines():
        row, _ = OutboxWorkspace.objects.using(alias).get_or_create(pk="w")
        rows = OutboxWorkspace.objects.using(alias).filter(pk="w")
        assert rows.update(failures=3) == 1
        assert [each.failures for each in rows] == [3]
        assert rows.filter(failures=4).update(failures=5) == 0
        with transaction.atomic(using=alias):
            assert rows.select_for_update().get() == row
            with transaction.atomic(using=alias):
                assert rows.delete()[0] == 1
        assert not rows.exists()


@pytest.fixture(params=[None, 0])
def server_side_binding(alias, request):
    """Connections on which the server binds the parameters, without and with prepared statements."""
    connection = connections[alias]
    connection.close()
    options = connection.settings_dict["OPTIONS"]
    connection.settings_dict["OPTIONS"] = options | {
        "server_side_binding": True,
        "prepare_threshold": request.param,
    }
    yield
    connection.close()
    connection.settings_dict["OPTIONS"] = options


def test_parameters_that_the_server_binds(alias, vendor, short_lease, server_side_binding):
    if vendor != "postgresql":
        pytest.skip("an option of PostgreSQL")
    with statement_deadlines():
        rows = OutboxWorkspace.objects.using(alias)
        rows.create(pk="50% of 'all'")
        assert rows.filter(pk="50% of 'all'").update(failures=2) == 1
        assert fetch(alias, SHOW[vendor]) == SET[vendor]


# --- a worker gets away from a stalled statement, and goes on afterwards ------------------------------------


def test_a_relay_gets_away_from_a_locked_row_and_goes_on_afterwards(alias, vendor, short_lease, caplog):
    (row,) = enqueue(alias, 1)
    OutboxWorkspace.objects.using(alias).get_or_create(pk="default")

    def lock():
        OutboxWorkspace.objects.using(alias).select_for_update().get(pk="default")

    with locked_by_another_session(alias, lock):
        assert tasks.relay(alias, "default") == 0
    assert "skipped until the next run" in caplog.text
    row.refresh_from_db()
    assert row.state == "pending"
    assert tasks.relay(alias, "default") == 1


@pytest.mark.parametrize("task", ["tick", "relay", "poll", "maintain"])
def test_a_task_gets_away_from_a_locked_table(alias, vendor, short_lease, task):
    enqueue(alias, 1)
    tables = [f"evermuse_outbox_outbox{name}" for name in ("record", "batch", "workspace")]

    def lock():
        with connections[alias].cursor() as cursor:
            if vendor == "postgresql":
                cursor.execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE")
            else:
                cursor.execute(f"LOCK TABLES {', '.join(f'{table} WRITE' for table in tables)}")

    arguments = (alias, "default") if task in ("relay", "poll") else ()
    with locked_by_another_session(alias, lock):
        getattr(tasks, task)(*arguments)


def test_the_throttle_in_the_database_gets_away_from_a_locked_row(alias, vendor, short_lease):
    throttle = DatabaseThrottle(alias, "f", Limit.from_rate(10))
    throttle.reserve(1)

    def lock():
        OutboxThrottle.objects.using(alias).select_for_update().get(pk="f")

    with statement_deadlines():
        with locked_by_another_session(alias, lock), pytest.raises(ThrottleUnavailable):
            throttle.reserve(1)
        assert throttle.reserve(60).taken


# --- every statement of every entry point -------------------------------------------------------------------


def untimed_of(alias, step):
    """Run ``step`` and return the statements that passed no deadline. Django has them in its log of queries."""
    from django.db.backends.utils import CursorWrapper

    untimed = []
    original = CursorWrapper._execute

    def execute(self, sql, params, *ignored):
        connection = self.db
        is_inside = connection.vendor == "postgresql" and connection.connection.info.transaction_status == 2
        is_timed = sql.startswith(("SET LOCAL statement_timeout", "SET STATEMENT max_statement_time"))
        if not (is_inside or is_timed or sql.startswith(("SAVEPOINT", "RELEASE", "ROLLBACK"))):
            untimed.append(sql)
        return original(self, sql, params, *ignored)

    CursorWrapper._execute = execute
    try:
        step()
    finally:
        CursorWrapper._execute = original
    return untimed


STEPS = {
    "tick": lambda alias: tasks.tick(),
    "relay": lambda alias: tasks.relay(alias, "default"),
    "poll": lambda alias: tasks.poll(alias, "default"),
    "maintain": lambda alias: tasks.maintain(),
    "outbox_relay": lambda alias: run_thread_once(lambda: maintain_all()),
    "outbox_status": lambda alias: call_command("outbox_status", database=alias, stdout=io.StringIO()),
    "outbox_resume": lambda alias: call_command("outbox_resume", database=alias, stdout=io.StringIO()),
}


def run_thread_once(step):
    """Run a thread of ``outbox_relay`` for one step."""
    stop = threading.Event()
    outbox_relay._repeat(stop, lambda: stop.set() or step() or 0.0)


@pytest.mark.parametrize(
    "module", list(pkgutil.iter_modules(commands.__path__)), ids=lambda module: module.name
)
def test_every_command_that_uses_the_outbox_has_deadlines(module):
    command = importlib.import_module(f"{commands.__name__}.{module.name}")
    threads = getattr(command, "_repeat", None)  # of a command that runs workers
    # The doctor opens its deadlines later: it must run with settings that are not valid. A schema needs no database.
    # To build an index takes as long as it takes.
    is_exempt = module.name in ("evermuse_sandbox", "outbox_doctor", "outbox_indexes", "outbox_schema")
    assert is_exempt or hasattr(threads or command.Command.handle, "__wrapped__")


def test_a_statement_without_a_deadline_is_found(alias, vendor, short_lease):
    assert untimed_of(alias, lambda: maintain_all()) != []


@pytest.mark.parametrize("name", STEPS)
def test_every_statement_has_a_deadline(alias, vendor, short_lease, name):
    outbox.enqueue_many((record(n) for n in range(20)), using=alias)
    tasks.relay(alias, "default")
    outbox.enqueue_many((record(n) for n in range(20, 40)), using=alias)
    assert untimed_of(alias, lambda: STEPS[name](alias)) == []
    assert batches(alias)
    open_context(alias, "default").client.close()
