"""How PostgreSQL keeps the tables: the check that says what is missing, the figures, and what the planner is told."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core import checks as django_checks
from django.core.management import call_command
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder
from django.utils.dateparse import parse_datetime

from evermuse_outbox import outbox
from evermuse_outbox.checks import check_storage
from evermuse_outbox.models import OutboxRecord
from evermuse_outbox.upkeep import postgresql as storage
from tests.records import record

RECORDS = OutboxRecord._meta.db_table


@pytest.fixture
def postgres(alias, monkeypatch):
    """Only there; and as if autovacuum were on."""
    if connections[alias].vendor != "postgresql":
        pytest.skip("PostgreSQL alone has this")
    monkeypatch.setattr(storage, "is_autovacuum_off", lambda using: False)


def run(alias, statement):
    with connections[alias].cursor() as cursor:
        cursor.execute(statement)


def said(alias):
    found = check_storage(databases=[alias])
    assert {message.id for message in found} <= {"evermuse_outbox.W007"}
    assert all(message.hint.startswith("Run: ") for message in found)
    return found


# --- W007 ---------------------------------------------------------------------------------------------


def test_other_databases_are_told_nothing(alias):
    if connections[alias].vendor == "postgresql":
        return
    assert said(alias) == []
    assert storage.tables(alias) == {}
    assert storage.analyze_unknown(alias) == []


def test_tables_as_the_migrations_leave_them_are_not_talked_about(postgres, alias):
    assert said(alias) == []


def test_a_lost_parameter_is_named_with_its_table_and_the_hint_mends_it(postgres, alias):
    run(alias, f"ALTER TABLE {RECORDS} RESET (autovacuum_vacuum_scale_factor, fillfactor)")
    (message,) = said(alias)
    assert RECORDS in message.msg
    assert "lacks fillfactor, autovacuum_vacuum_scale_factor" in message.msg
    run(alias, message.hint.removeprefix("Run: "))
    assert said(alias) == []


def test_a_value_of_the_hosts_own_is_theirs(postgres, alias):
    run(alias, f"ALTER TABLE {RECORDS} SET (autovacuum_vacuum_scale_factor = 0.5)")
    assert said(alias) == []


@pytest.mark.parametrize("off", ["false", "off"])
def test_a_table_that_autovacuum_leaves_alone(postgres, alias, off):
    run(alias, f"ALTER TABLE {RECORDS} SET (autovacuum_enabled = {off})")
    (message,) = said(alias)
    assert "autovacuum is off for the table" in message.msg
    run(alias, message.hint.removeprefix("Run: "))
    assert said(alias) == []


def test_a_server_without_autovacuum(postgres, alias, monkeypatch):
    monkeypatch.setattr(storage, "is_autovacuum_off", lambda using: True)
    (message,) = said(alias)
    assert "autovacuum is off on the server" in message.msg
    assert "ALTER SYSTEM SET autovacuum = on" in message.hint


def test_whether_the_server_does_without_is_what_it_says_itself(alias):
    if connections[alias].vendor != "postgresql":
        assert storage.is_autovacuum_off(alias) is False
        return
    with connections[alias].cursor() as cursor:
        cursor.execute("SHOW autovacuum")
        assert storage.is_autovacuum_off(alias) == (cursor.fetchone()[0] == "off")


def test_only_databases_of_the_outbox_that_are_asked_for(postgres, alias, outbox_settings):
    run(alias, f"ALTER TABLE {RECORDS} RESET (fillfactor)")
    assert check_storage(databases=None) == []
    assert check_storage(databases=["default"]) == []
    outbox_settings(DATABASES=["default"])
    assert check_storage(databases=[alias]) == []


@pytest.mark.commits
def test_before_the_first_migration_there_is_nothing_to_say(postgres, alias):
    try:
        call_command("migrate", "evermuse_outbox", "zero", database=alias, verbosity=0)
        assert said(alias) == []
    finally:
        call_command("migrate", "evermuse_outbox", database=alias, verbosity=0)


def test_tables_that_no_migration_made_are_talked_about(postgres, alias):
    MigrationRecorder(connections[alias]).migration_qs.filter(app="evermuse_outbox").delete()
    run(alias, f"ALTER TABLE {RECORDS} RESET (fillfactor)")
    assert len(said(alias)) == 1


def test_the_check_runs_where_databases_are_checked(postgres, alias):
    run(alias, f"ALTER TABLE {RECORDS} RESET (fillfactor)")
    tags = [django_checks.Tags.database]
    found = django_checks.run_checks(tags=tags, databases=[alias])
    assert [message.id for message in found if message.id.startswith("evermuse")] == ["evermuse_outbox.W007"]
    assert not [m for m in django_checks.run_checks() if m.id == "evermuse_outbox.W007"]


# --- figures and statistics ---------------------------------------------------------------------------


def grow(alias, count):
    """``count`` pending records, committed and counted."""
    outbox.enqueue_many((record(number) for number in range(count)), using=alias)
    run(alias, "SELECT pg_stat_force_next_flush()")


@pytest.mark.commits
def test_the_figures_are_those_of_the_database(postgres, alias):
    grow(alias, 30)
    OutboxRecord.rows.using(alias).filter(pk__gt=0).delete()
    run(alias, f"VACUUM {RECORDS}")
    told = storage.tables(alias)[RECORDS]
    assert (told["rows"], told["dead_rows"]) == (0, 0)
    assert told["bytes"] > 0
    assert parse_datetime(told["vacuumed_at"]) is not None


@pytest.mark.commits
def test_a_table_that_the_planner_knows_nothing_of_is_analyzed_once(postgres, alias, monkeypatch):
    monkeypatch.setattr(storage, "UNKNOWN", 20)
    run(
        alias,
        "SELECT pg_stat_reset_single_table_counters(oid) FROM pg_class WHERE relname ~ '^evermuse_outbox'",
    )
    run(alias, f"TRUNCATE {RECORDS}")
    grow(alias, 10)
    assert storage.analyze_unknown(alias) == []
    grow(alias, 20)
    assert storage.analyze_unknown(alias) == [RECORDS]
    assert storage.tables(alias)[RECORDS]["analyzed_at"]
    grow(alias, 1_000)  # has more than doubled, but within a minute
    assert storage.analyze_unknown(alias) == []


def test_large_tables_are_told_of_in_the_status(alias, monkeypatch):
    told = {"rows": 9_000, "dead_rows": 1_000, "bytes": 5 * 1024**3, "vacuumed_at": None, "analyzed_at": None}
    small = told | {"rows": 999, "dead_rows": 0}
    monkeypatch.setattr(
        "evermuse_outbox.insight.status.tables", lambda using: {RECORDS: told, "small": small}
    )
    out = StringIO()
    call_command("outbox_status", "--database", alias, stdout=out)
    lines = [line for line in out.getvalue().splitlines() if line.startswith("Table")]
    said = "about 9,000 rows and 1,000 dead rows (10%), 5.0\xa0GB, last vacuum never"
    assert lines == [f"Table {RECORDS}: {said}"]
