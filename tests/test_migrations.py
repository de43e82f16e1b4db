"""Migrations: none is missing, they can be reversed, and they create the indexes that queries rely on."""

from __future__ import annotations

import uuid
from importlib import import_module
from io import StringIO
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connections
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from evermuse_outbox.evermuse.records import make_identity, validate
from evermuse_outbox.models import OutboxBatch, OutboxGroup, OutboxRecord, OutboxThrottle, OutboxWorkspace
from evermuse_outbox.upkeep import STORAGE, read_table_options
from tests.records import record
from tests.schema import read_schema

APP = "evermuse_outbox"
LAST_RELEASE = "0011_latencies"
"""The newest migration of the last release. Each later one goes on after an interruption, on every database."""

RECORDS, BATCHES = f"{APP}_outboxrecord", f"{APP}_outboxbatch"

PENDING = ["workspace", "type", "product_id", "enqueued_at", "id"]
PARTIAL = {
    "evermuse_record_pending": (RECORDS, PENDING),
    "evermuse_record_batch": (RECORDS, ["batch_id"]),
    "evermuse_record_closed": (RECORDS, ["closed_as", "id"]),
    "evermuse_record_labels": (RECORDS, ["label_set_id", "id"]),
    "evermuse_batch_due": (BATCHES, ["workspace", "due_at", "id"]),
    "evermuse_batch_poll": (BATCHES, ["workspace", "next_poll_at", "id"]),
    "evermuse_batch_lease": (BATCHES, ["leased_until"]),
    "evermuse_batch_over": (BATCHES, ["finished_at", "id"]),
    "evermuse_batch_payloads": (BATCHES, ["state", "finished_at", "id"]),
}
FULL = {
    "evermuse_record_identity": (RECORDS, ["identity", "id"]),
    "evermuse_batch_state": (BATCHES, ["state", "id"]),
}
INSTEAD = {
    "evermuse_record_pending": (RECORDS, ["batch_id", "closed_as", *PENDING]),
    "evermuse_record_closed": (RECORDS, ["closed_as", "id"]),
    "evermuse_batch_due": (BATCHES, ["state", "workspace", "due_at", "id"]),
    "evermuse_batch_poll": (BATCHES, ["workspace", "next_poll_at", "id"]),
    "evermuse_batch_lease": (BATCHES, ["leased_until"]),
    "evermuse_batch_over": (BATCHES, ["next_poll_at", "finished_at", "id"]),
    "evermuse_batch_payloads": (BATCHES, ["state", "payloads_dropped_at", "finished_at", "id"]),
}


def tables(alias):
    with connections[alias].cursor() as cursor:
        names = connections[alias].introspection.table_names(cursor)
    return {name for name in names if name.startswith(f"{APP}_")}


def constraints(alias, table):
    with connections[alias].cursor() as cursor:
        return connections[alias].introspection.get_constraints(cursor, table)


def named_indexes(alias):
    """Return name → table and columns of the indexes that the models name."""
    return {
        name: (table, index["columns"])
        for table in (RECORDS, BATCHES)
        for name, index in constraints(alias, table).items()
        if index["index"] and not index["primary_key"] and name.startswith("evermuse_") and APP not in name
    }


def is_mariadb(alias):
    return connections[alias].vendor == "mysql"


def query(alias, sql, *parameters):
    with connections[alias].cursor() as cursor:
        cursor.execute(sql, parameters)
        return [row[0] for row in cursor.fetchall()]


class Interrupted(Exception):
    """Ends ``migrate`` after a statement, as the death of its process does."""


@pytest.mark.commits
def test_a_migration_that_was_interrupted_after_any_statement_goes_on(alias):
    """MySQL and MariaDB commit each statement at once, so each interruption leaves another state of the tables."""
    if not is_mariadb(alias):
        pytest.skip("it rolls an interrupted migration back")
    before = read_schema(alias)
    limit, executed = 1, set()

    def interrupt(execute, sql, *arguments):
        nonlocal count
        result = execute(sql, *arguments)
        count += sql.startswith(("ALTER", "CREATE", "DROP", "INSERT"))
        if count == limit and sql.startswith(("ALTER", "CREATE", "DROP", "INSERT")):
            raise Interrupted(sql)
        return result

    call_command("migrate", APP, LAST_RELEASE, database=alias, verbosity=0)
    try:
        while True:
            count = 0
            try:
                with connections[alias].execute_wrapper(interrupt):
                    call_command("migrate", APP, database=alias, verbosity=0)
                break
            except Interrupted as interrupted:
                # A statement that every run repeats is passed, to come to the next one.
                limit = limit + 1 if str(interrupted) in executed else 1
                executed.add(str(interrupted))
    finally:
        call_command("migrate", APP, database=alias, verbosity=0)
    assert executed
    assert read_schema(alias) == before


@pytest.mark.django_db(databases="__all__")
def test_no_migration_is_missing():
    out = StringIO()
    call_command("makemigrations", "--check", "--dry-run", APP, stdout=out)
    assert "No changes detected" in out.getvalue()


@pytest.mark.commits
def test_migrate_to_zero_and_back(alias):
    before = tables(alias), named_indexes(alias)
    assert before[0] == {model._meta.db_table for model in apps.get_app_config(APP).get_models()}
    try:
        call_command("migrate", APP, "zero", database=alias, verbosity=0)
        assert tables(alias) == set()
    finally:
        call_command("migrate", APP, database=alias, verbosity=0)
    assert (tables(alias), named_indexes(alias)) == before


def test_every_named_index_exists(alias):
    assert named_indexes(alias) == (INSTEAD if is_mariadb(alias) else PARTIAL) | FULL


def test_indexes_of_open_rows_are_partial_if_the_database_has_partial_indexes(alias):
    if is_mariadb(alias):
        assert named_indexes(alias)["evermuse_record_pending"][1][:2] == ["batch_id", "closed_as"]
        return
    catalogue = {
        "sqlite": "SELECT sql FROM sqlite_master WHERE type = 'index' AND name = %s",
        "postgresql": "SELECT indexdef FROM pg_indexes WHERE indexname = %s",
    }[connections[alias].vendor]
    for name in PARTIAL:
        (definition,) = query(alias, catalogue, name)
        assert " WHERE " in definition, name
    (pending,) = query(alias, catalogue, "evermuse_record_pending")
    condition = pending.split(" WHERE ")[1].replace('"', "").replace("(", "").replace(")", "")
    assert condition == "batch_id IS NULL AND closed_as IS NULL"


def test_postgresql_pages_have_room_for_the_one_update_of_a_record(alias):
    if connections[alias].vendor != "postgresql":
        return
    (options,) = query(alias, "SELECT reloptions FROM pg_class WHERE relname = %s", RECORDS)
    assert "fillfactor=50" in options


@pytest.mark.commits
def test_storage_parameters_are_those_that_the_check_expects(alias):
    if connections[alias].vendor != "postgresql":
        return
    missing = {table.model: table.missing for table in read_table_options(alias)}
    assert set(STORAGE) <= set(missing)
    assert not any(missing.values())


def test_every_constraint_on_states_is_in_the_database(alias):
    names = {
        name
        for table in (RECORDS, BATCHES)
        for name, constraint in constraints(alias, table).items()
        if constraint["check"] and name.startswith("evermuse_") and APP not in name
    }
    expected = {"evermuse_record_closed_as", "evermuse_record_superseded_by", "evermuse_batch_known_state"}
    expected |= {"evermuse_batch_leased", "evermuse_batch_remote"}
    # SQLite's introspection cannot read a named check next to others; the table's own text can.
    if connections[alias].vendor == "sqlite":
        texts = query(
            alias, "SELECT sql FROM sqlite_master WHERE type = 'table' AND name IN (%s, %s)", RECORDS, BATCHES
        )
        names = {name for name in expected if any(f'"{name}" CHECK' in text for text in texts)}
    assert names == expected


def test_no_foreign_key_has_a_database_constraint(alias):
    for table in tables(alias):
        assert not [
            name for name, constraint in constraints(alias, table).items() if constraint["foreign_key"]
        ], table


def test_every_column_with_a_name_is_compared_exactly(alias):
    if not is_mariadb(alias):
        return
    names = [
        (model._meta.db_table, field.column)
        for model in apps.get_app_config(APP).get_models()
        for field in model._meta.concrete_fields
        if field.name in ("workspace", "type", "product_id")
        or (model.__name__, field.name) == ("OutboxWorkspace", "name")
    ]
    compared = (
        "SELECT collation_name FROM information_schema.columns "
        "WHERE table_schema = DATABASE() AND table_name = %s AND column_name = %s"
    )
    assert {name: query(alias, compared, *name) for name in names} == {
        name: ["utf8mb4_nopad_bin"] for name in names
    }


@pytest.mark.parametrize(
    ("mysql_is_mariadb", "mysql_version", "collation"),
    [
        (True, (10, 5, 0), "utf8mb4_nopad_bin"),
        (False, (8, 4, 0), "utf8mb4_0900_bin"),
        (False, (8, 0, 17), "utf8mb4_0900_bin"),
        (False, (8, 0, 11), "utf8mb4_bin"),  # the oldest that Django 5.2 takes
    ],
)
def test_each_server_gets_an_exact_collation_that_it_has(mysql_is_mariadb, mysql_version, collation):
    connection = SimpleNamespace(mysql_is_mariadb=mysql_is_mariadb, mysql_version=mysql_version)
    initial = import_module(f"{APP}.migrations.0001_initial")
    assert initial.exact_collation(connection) == collation
    prerelease = import_module(f"{APP}.prerelease_migrations.0007_exact_groups")
    assert prerelease.collation_of(connection) == collation


# --- databases of a pre-release -----------------------------------------------------------------------


def migrate(alias, target=None):
    call_command("migrate", APP, *([target] if target else []), database=alias, verbosity=0)


@pytest.fixture
def prerelease(alias, settings):
    """Create the tables of the first pre-release; afterwards, create them anew by the initial migration."""
    migrate(alias, "zero")
    settings.MIGRATION_MODULES = {APP: f"{APP}.prerelease_migrations"}
    try:
        migrate(alias, "0007")
        yield
    finally:
        settings.MIGRATION_MODULES = {}
        for table in tables(alias):
            with connections[alias].cursor() as cursor:
                cursor.execute(f"DROP TABLE {table}")
        MigrationRecorder(connections[alias]).migration_qs.filter(app=APP).delete()
        migrate(alias)


def old_model(alias, name):
    """Return a model as it was at migration 0007."""
    loader = MigrationLoader(connections[alias])
    return loader.project_state((APP, "0007_exact_groups")).apps.get_model(APP, name).objects.using(alias)


def released_migrations():
    return {name for app, name in MigrationLoader(None).disk_migrations if app == APP}


def add_old_rows(alias):
    now = timezone.now().replace(microsecond=0)
    group = {"workspace": "north", "type": "message", "product_id": "Prod "}
    batch = old_model(alias, "OutboxBatch").create(
        **group, contract="openapi", body_format="ndjson", key="k1", sha256="0" * 64, record_count=2,
        byte_count=20, state="dividing", search={"suspects": 2}, sealed_at=now, due_at=now,
    )  # fmt: skip
    envelope = validate(record(1), contract="reference")
    records = old_model(alias, "OutboxRecord")
    for number, changes in enumerate(({"batch_id": batch.pk}, {"closed_as": "rejected"}, {})):
        records.create(
            **group, identity=uuid.uuid5(uuid.NAMESPACE_OID, str(number)), contract="reference",
            payload=envelope.line, size=envelope.size, enqueued_at=now, **changes,
        )  # fmt: skip
    old_model(alias, "OutboxWorkspace").create(
        name="north",
        state="open",
        turns=7,
        agenda={"a": 1},
        flows=[["message", "Prod ", 2.5]],
        usual_seconds=12.5,
    )
    old_model(alias, "OutboxWorkspace").create(
        name="south", state="paused", held_until=now, reason="HTTP 401"
    )
    old_model(alias, "OutboxGroup").create(
        **group, scope="s", state="paused", since=now, complaint="no", contract="openapi", held_until=now
    )
    old_model(alias, "OutboxThrottle").create(
        scope="t", free_at=1.5, hold_until=2.5, quickest=0.25, touched=9
    )
    return now, envelope


@pytest.mark.commits
def test_a_database_of_a_prerelease_gets_the_same_schema_and_keeps_its_rows(alias, settings, request):
    expected = read_schema(alias)
    request.getfixturevalue("prerelease")
    now, envelope = add_old_rows(alias)

    migrate(alias)
    settings.MIGRATION_MODULES = {}
    out = StringIO()
    call_command("migrate", APP, database=alias, stdout=out)
    assert "0001_initial" not in out.getvalue()
    assert read_schema(alias) == expected

    batch = OutboxBatch.objects.using(alias).get()
    assert (batch.state, batch.isolation, batch.product_id) == ("isolating", {"suspects": 2}, "Prod ")
    identity = make_identity("north", "message", record(1)["_event_at"], record(1)["_vendor_ids"])
    rows = OutboxRecord.objects.using(alias).order_by("pk")
    assert [(row.state, row.identity, row.payload) for row in rows] == [
        (state, identity, envelope.line) for state in ("in_flight", "rejected", "pending")
    ]
    north, south = OutboxWorkspace.objects.using(alias).order_by("pk")
    assert (north.state, north.seal_count, north.run_queue) == ("active", 7, {"a": 1})
    assert OutboxWorkspace.objects.using(alias).read_arrival_rates("north") == {("message", "Prod "): 2.5}
    assert north.typical_completion_seconds == 12.5
    assert (south.state, south.blocked_until, south.reason) == ("paused", now, "HTTP 401")
    group = OutboxGroup.objects.using(alias).get()
    assert (group.error_signature, group.blocked_until) == ("no", now)
    throttle = OutboxThrottle.objects.using(alias).get()
    assert (throttle.next_slot_at, throttle.blocked_until) == (1.5, 2.5)
    assert (throttle.min_latency, throttle.lock_count) == (0.25, 9)


@pytest.mark.commits
def test_a_database_of_a_prerelease_can_be_emptied_and_created_again(alias, settings, prerelease):
    migrate(alias)
    settings.MIGRATION_MODULES = {}
    migrate(alias, "zero")
    assert tables(alias) == set()
    migrate(alias)
    assert read_schema(alias)
    call_command("migrate", APP, prune=True, database=alias, verbosity=0)
    recorded = MigrationRecorder(connections[alias]).migration_qs.filter(app=APP)
    assert set(recorded.values_list("name", flat=True)) == released_migrations()


def test_the_prerelease_migrations_lead_to_the_models_of_the_initial_migration(settings):
    initial = MigrationLoader(None).project_state((APP, "0001_initial"))
    settings.MIGRATION_MODULES = {APP: f"{APP}.prerelease_migrations"}
    loader = MigrationLoader(None)
    changes = MigrationAutodetector(loader.project_state(), initial).changes(loader.graph)
    assert APP not in changes
