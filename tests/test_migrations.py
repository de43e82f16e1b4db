"""Migrations: none is missing, they go back and forth, and they leave what the queries rely on."""

from __future__ import annotations

import uuid
from importlib import import_module
from io import StringIO
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connections

from evermuse_outbox import outbox
from evermuse_outbox.models import OutboxRecord
from evermuse_outbox.upkeep.postgresql import STORAGE
from tests.records import record

APP = "evermuse_outbox"
RECORDS, BATCHES = f"{APP}_outboxrecord", f"{APP}_outboxbatch"

PENDING = ["workspace", "type", "product_id", "enqueued_at", "id"]
PARTIAL = {
    "evermuse_record_pending": (RECORDS, PENDING),
    "evermuse_record_batch": (RECORDS, ["batch_id"]),
    "evermuse_record_closed": (RECORDS, ["closed_as", "id"]),
    "evermuse_batch_due": (BATCHES, ["workspace", "due_at", "id"]),
    "evermuse_batch_poll": (BATCHES, ["workspace", "next_poll_at", "id"]),
    "evermuse_batch_lease": (BATCHES, ["leased_until"]),
    "evermuse_batch_over": (BATCHES, ["finished_at", "id"]),
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
}


def tables(alias):
    with connections[alias].cursor() as cursor:
        names = connections[alias].introspection.table_names(cursor)
    return {name for name in names if name.startswith(f"{APP}_")}


def constraints(alias, table):
    with connections[alias].cursor() as cursor:
        return connections[alias].introspection.get_constraints(cursor, table)


def our_indexes(alias):
    """Name → table and columns of the indexes with a name of ours."""
    return {
        name: (table, found["columns"])
        for table in (RECORDS, BATCHES)
        for name, found in constraints(alias, table).items()
        if found["index"] and not found["primary_key"] and name.startswith("evermuse_") and APP not in name
    }


def is_mariadb(alias):
    return connections[alias].vendor == "mysql"


def query(alias, sql, *parameters):
    with connections[alias].cursor() as cursor:
        cursor.execute(sql, parameters)
        return [row[0] for row in cursor.fetchall()]


@pytest.mark.django_db(databases="__all__")
def test_no_migration_is_missing():
    out = StringIO()
    call_command("makemigrations", "--check", "--dry-run", APP, stdout=out)
    assert "No changes detected" in out.getvalue()


@pytest.mark.commits
def test_back_to_zero_and_forth_again(alias):
    before = tables(alias), our_indexes(alias)
    assert before[0] == {model._meta.db_table for model in apps.get_app_config(APP).get_models()}
    try:
        call_command("migrate", APP, "zero", database=alias, verbosity=0)
        assert tables(alias) == set()
    finally:
        call_command("migrate", APP, database=alias, verbosity=0)
    assert (tables(alias), our_indexes(alias)) == before


def test_the_indexes_are_there_by_name(alias):
    assert our_indexes(alias) == (INSTEAD if is_mariadb(alias) else PARTIAL) | FULL


def test_indexes_of_open_rows_are_partial_where_that_exists(alias):
    if is_mariadb(alias):
        assert our_indexes(alias)["evermuse_record_pending"][1][:2] == ["batch_id", "closed_as"]
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


def test_postgres_leaves_room_for_the_one_update_of_a_record(alias):
    if connections[alias].vendor != "postgresql":
        return
    (options,) = query(alias, "SELECT reloptions FROM pg_class WHERE relname = %s", RECORDS)
    assert "fillfactor=50" in options


@pytest.mark.commits
def test_postgres_keeps_the_tables_as_the_migrations_say_and_forgets_it_on_the_way_back(alias):
    if connections[alias].vendor != "postgresql":
        return
    parameters = "SELECT reloptions FROM pg_class WHERE relname LIKE 'evermuse_outbox_%%' AND relkind = 'r'"
    before = query(alias, parameters)
    assert sum(options is not None for options in before) == len(STORAGE)
    try:
        call_command("migrate", APP, "0003", database=alias, verbosity=0)
        assert [options for options in query(alias, parameters) if options] == [["fillfactor=50"]]
    finally:
        call_command("migrate", APP, database=alias, verbosity=0)
    assert sorted(query(alias, parameters), key=str) == sorted(before, key=str)


@pytest.mark.commits
def test_former_identities_become_those_of_today(alias):
    made = [outbox.enqueue(record(number), using=alias) for number in range(3)]
    rows = OutboxRecord.rows.using(alias)
    try:
        call_command("migrate", APP, "0007", database=alias, verbosity=0)
        for row in made[:2]:
            rows.filter(pk=row.pk).update(identity=uuid.uuid5(uuid.NAMESPACE_OID, str(row.pk)))
    finally:
        call_command("migrate", APP, database=alias, verbosity=0)
    assert dict(rows.values_list("pk", "identity")) == {row.pk: row.identity for row in made}


def test_every_rule_on_states_is_in_the_database(alias):
    found = {
        name
        for table in (RECORDS, BATCHES)
        for name, told in constraints(alias, table).items()
        if told["check"] and name.startswith("evermuse_") and APP not in name
    }
    expected = {"evermuse_record_closed_as", "evermuse_record_superseded_by", "evermuse_batch_known_state"}
    expected |= {"evermuse_batch_leased", "evermuse_batch_remote"}
    # SQLite's introspection cannot read a named check next to others; the table's own text can.
    if connections[alias].vendor == "sqlite":
        texts = query(
            alias, "SELECT sql FROM sqlite_master WHERE type = 'table' AND name IN (%s, %s)", RECORDS, BATCHES
        )
        found = {name for name in expected if any(f'"{name}" CHECK' in text for text in texts)}
    assert found == expected


def test_no_foreign_key_of_ours_is_checked_by_the_database(alias):
    for table in tables(alias):
        assert not [name for name, told in constraints(alias, table).items() if told["foreign_key"]], table


def test_names_are_compared_exactly_wherever_they_stand(alias):
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
def test_each_server_is_asked_for_an_exact_collation_that_it_has(mysql_is_mariadb, mysql_version, collation):
    migration = import_module(f"{APP}.migrations.0007_exact_groups")
    connection = SimpleNamespace(mysql_is_mariadb=mysql_is_mariadb, mysql_version=mysql_version)
    assert migration.collation_of(connection) == collation
