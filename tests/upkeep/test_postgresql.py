"""PostgreSQL: the check for storage parameters, the statistics of tables, and ANALYZE of unknown tables."""

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
from evermuse_outbox.upkeep import (
    analyze_unknown_tables,
    is_autovacuum_off,
    postgresql,
    read_table_statistics,
)
from tests.records import record

RECORDS = OutboxRecord._meta.db_table


@pytest.fixture
def postgres(alias, monkeypatch):
    """Skip other databases, and treat autovacuum as on."""
    if connections[alias].vendor != "postgresql":
        pytest.skip("PostgreSQL alone has this")
    monkeypatch.setattr("evermuse_outbox.upkeep.is_autovacuum_off", lambda using: False)


def run(alias, statement):
    with connections[alias].cursor() as cursor:
        cursor.execute(statement)


def warnings(alias):
    """Run the check and return its messages."""
    messages = check_storage(databases=[alias])
    assert {message.id for message in messages} <= {"evermuse_outbox.W007"}
    assert all(message.hint.startswith("Run: ") for message in messages)
    return messages


# --- W007 ---------------------------------------------------------------------------------------------


def test_other_databases_have_no_warnings_and_no_statistics(alias):
    if connections[alias].vendor == "postgresql":
        return
    assert warnings(alias) == []
    assert read_table_statistics(alias) == {}
    assert analyze_unknown_tables(alias) == []


def test_tables_as_the_migrations_create_them_have_no_warning(postgres, alias):
    assert warnings(alias) == []


def test_a_missing_parameter_is_named_with_its_table_and_the_hint_sets_it(postgres, alias):
    run(alias, f"ALTER TABLE {RECORDS} RESET (autovacuum_vacuum_scale_factor, fillfactor)")
    (message,) = warnings(alias)
    assert RECORDS in message.msg
    assert "lacks fillfactor, autovacuum_vacuum_scale_factor" in message.msg
    run(alias, message.hint.removeprefix("Run: "))
    assert warnings(alias) == []


def test_a_value_that_the_host_has_set_is_accepted(postgres, alias):
    run(alias, f"ALTER TABLE {RECORDS} SET (autovacuum_vacuum_scale_factor = 0.5)")
    assert warnings(alias) == []


@pytest.mark.parametrize("off", ["false", "off"])
def test_a_table_without_autovacuum(postgres, alias, off):
    run(alias, f"ALTER TABLE {RECORDS} SET (autovacuum_enabled = {off})")
    (message,) = warnings(alias)
    assert "autovacuum is off for the table" in message.msg
    run(alias, message.hint.removeprefix("Run: "))
    assert warnings(alias) == []


def test_a_server_without_autovacuum(postgres, alias, monkeypatch):
    monkeypatch.setattr("evermuse_outbox.upkeep.is_autovacuum_off", lambda using: True)
    (message,) = warnings(alias)
    assert "autovacuum is off on the server" in message.msg
    assert "ALTER SYSTEM SET autovacuum = on" in message.hint


def test_is_autovacuum_off_returns_the_setting_of_the_server(alias):
    if connections[alias].vendor != "postgresql":
        assert is_autovacuum_off(alias) is False
        return
    with connections[alias].cursor() as cursor:
        cursor.execute("SHOW autovacuum")
        assert is_autovacuum_off(alias) == (cursor.fetchone()[0] == "off")


def test_only_the_given_databases_of_the_outbox_are_checked(postgres, alias, outbox_settings):
    run(alias, f"ALTER TABLE {RECORDS} RESET (fillfactor)")
    assert check_storage(databases=None) == []
    assert check_storage(databases=["default"]) == []
    outbox_settings(DATABASES=["default"])
    assert check_storage(databases=[alias]) == []


@pytest.mark.commits
def test_there_is_no_warning_before_the_first_migration(postgres, alias):
    try:
        call_command("migrate", "evermuse_outbox", "zero", database=alias, verbosity=0)
        assert warnings(alias) == []
    finally:
        call_command("migrate", "evermuse_outbox", database=alias, verbosity=0)


def test_tables_that_no_migration_created_are_checked(postgres, alias):
    MigrationRecorder(connections[alias]).migration_qs.filter(app="evermuse_outbox").delete()
    run(alias, f"ALTER TABLE {RECORDS} RESET (fillfactor)")
    assert len(warnings(alias)) == 1


def test_the_check_runs_where_databases_are_checked(postgres, alias):
    run(alias, f"ALTER TABLE {RECORDS} RESET (fillfactor)")
    tags = [django_checks.Tags.database]
    messages = django_checks.run_checks(tags=tags, databases=[alias])
    assert [message.id for message in messages if message.id.startswith("evermuse")] == [
        "evermuse_outbox.W007"
    ]
    assert not [m for m in django_checks.run_checks() if m.id == "evermuse_outbox.W007"]


# --- figures and statistics ---------------------------------------------------------------------------


def grow(alias, count):
    """Commit ``count`` pending records, and let PostgreSQL count them."""
    outbox.enqueue_many((record(number) for number in range(count)), using=alias)
    run(alias, "SELECT pg_stat_force_next_flush()")


@pytest.mark.commits
def test_the_statistics_are_those_of_the_database(postgres, alias):
    grow(alias, 30)
    OutboxRecord.rows.using(alias).filter(pk__gt=0).delete()
    run(alias, f"VACUUM {RECORDS}")
    statistics = read_table_statistics(alias)[RECORDS]
    assert (statistics["rows"], statistics["dead_rows"]) == (0, 0)
    assert statistics["bytes"] > 0
    assert parse_datetime(statistics["vacuumed_at"]) is not None


@pytest.mark.commits
def test_a_table_without_statistics_is_analyzed_once(postgres, alias, monkeypatch):
    monkeypatch.setattr(postgresql, "MIN_CHANGED_ROWS", 20)
    run(
        alias,
        "SELECT pg_stat_reset_single_table_counters(oid) FROM pg_class WHERE relname ~ '^evermuse_outbox'",
    )
    run(alias, f"TRUNCATE {RECORDS}")
    grow(alias, 10)
    assert analyze_unknown_tables(alias) == []
    grow(alias, 20)
    assert analyze_unknown_tables(alias) == [RECORDS]
    assert read_table_statistics(alias)[RECORDS]["analyzed_at"]
    grow(alias, 1_000)  # it has doubled, but within a minute
    assert analyze_unknown_tables(alias) == []


def test_outbox_status_shows_large_tables(alias, monkeypatch):
    statistics = {
        "rows": 9_000,
        "dead_rows": 1_000,
        "bytes": 5 * 1024**3,
        "vacuumed_at": None,
        "analyzed_at": None,
    }
    small = statistics | {"rows": 999, "dead_rows": 0}
    monkeypatch.setattr(
        "evermuse_outbox.insight.status.read_table_statistics",
        lambda using: {RECORDS: statistics, "small": small},
    )
    out = StringIO()
    call_command("outbox_status", "--database", alias, stdout=out)
    lines = [line for line in out.getvalue().splitlines() if line.startswith("Table")]
    text = "about 9,000 rows and 1,000 dead rows (10%), 5.0\xa0GB, last vacuum never"
    assert lines == [f"Table {RECORDS}: {text}"]
