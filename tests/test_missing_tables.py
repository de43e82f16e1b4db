"""A worker whose connection does not see the tables: one clear error a minute, a check, and it goes on by itself."""

from __future__ import annotations

import logging
from contextlib import contextmanager

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from evermuse_outbox import tasks
from evermuse_outbox.checks import check_storage
from evermuse_outbox.delivery.context import retries
from evermuse_outbox.models import OutboxRecord, OutboxWorkspace
from evermuse_outbox.monitoring import heartbeats
from evermuse_outbox.sandbox import Sandbox
from evermuse_outbox.upkeep import maintain_all
from tests.records import enqueue

TABLES = [model._meta.db_table for model in (OutboxRecord, OutboxWorkspace)]


@contextmanager
def hidden_tables(alias):
    """Hide two tables: on PostgreSQL they are in another schema, and on the others they are renamed."""
    connection = connections[alias]
    if connection.vendor == "postgresql":
        hide = ["CREATE SCHEMA elsewhere", *(f"ALTER TABLE {table} SET SCHEMA elsewhere" for table in TABLES)]
        show = [f"ALTER TABLE elsewhere.{table} SET SCHEMA public" for table in TABLES]
        show.append("DROP SCHEMA elsewhere")
    else:
        hide = [f"ALTER TABLE {table} RENAME TO {table}_hidden" for table in TABLES]
        show = [f"ALTER TABLE {table}_hidden RENAME TO {table}" for table in TABLES]
    execute(connection, hide)
    try:
        yield
    finally:
        execute(connection, show)


def execute(connection, statements):
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA foreign_keys = OFF")
        for statement in statements:
            cursor.execute(statement)


@pytest.fixture
def worker(outbox_settings, monkeypatch):
    monkeypatch.setattr(retries, "_reported", {})
    monkeypatch.setattr(heartbeats, "_beats", {})
    with Sandbox(rate_limit=100_000, batch_seconds=0) as running:

        def work(alias):
            outbox_settings(API_URL=running.url, API_KEY="em_sk_sandbox", DATABASES=[alias], RATE_LIMIT=1_000)
            monkeypatch.setattr(tasks, "request_run", lambda task, *key: task(*key))
            tasks.tick()
            tasks.relay(alias, "default")
            tasks.poll(alias, "default")
            tasks.operate(alias)
            maintain_all()

        yield work


@pytest.mark.commits
def test_one_error_a_minute_names_the_cause_and_the_worker_goes_on(alias, worker, caplog, monkeypatch):
    (row,) = enqueue(alias, 1)
    caplog.set_level(logging.INFO, "evermuse_outbox")
    with hidden_tables(alias):
        for _ in range(3):
            worker(alias)
        (error,) = [entry for entry in caplog.records if entry.levelno >= logging.WARNING]
        assert error.levelname == "ERROR"
        assert f"manage.py migrate evermuse_outbox --database {alias}" in error.getMessage()
        assert "search_path" in error.getMessage()
        assert error.exc_info is None
        assert "Traceback" not in caplog.text
        (warning,) = [message for message in check_storage([alias]) if message.id.endswith("W022")]
        assert TABLES[0] in warning.msg
        monkeypatch.setattr(retries, "NO_TABLES_INTERVAL", 0.0)
        tasks.relay(alias, "default")
        assert len([entry for entry in caplog.records if entry.levelname == "ERROR"]) == 2
    worker(alias)
    worker(alias)
    assert OutboxRecord.objects.using(alias).get(pk=row.pk).state != "pending"
    assert [message for message in check_storage([alias]) if message.id.endswith("W022")] == []


@pytest.mark.django_db
def test_a_new_database_gives_no_warning(monkeypatch):
    introspection = connections["default"].introspection
    monkeypatch.setattr(introspection, "table_names", lambda cursor: ["host_table"])
    assert [message for message in check_storage(["default"]) if message.id.endswith("W022")] == []


@pytest.mark.commits
@pytest.mark.parametrize("command", ["outbox_status", "outbox_drain"])
def test_a_command_says_what_to_do(alias, outbox_settings, command):
    outbox_settings(DATABASES=[alias])
    with (
        hidden_tables(alias),
        pytest.raises(CommandError, match=f"migrate evermuse_outbox --database {alias}"),
    ):
        call_command(command)
