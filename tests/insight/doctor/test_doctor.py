"""Each thing that can be wrong with an installation is broken once, on each database, and found."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connections

from evermuse_outbox.insight.doctor import examine_database
from evermuse_outbox.insight.doctor.schema import examine_schema
from evermuse_outbox.models import OutboxRecord

RECORD, BATCH = "evermuse_outbox_outboxrecord", "evermuse_outbox_outboxbatch"


def execute(alias, *statements):
    with connections[alias].cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def apply(finding):
    """Run the command of a remedy."""
    program, command, *options = finding.remedy.split()
    assert (program, command) == ("manage.py", "outbox_indexes")
    call_command(command, *options, stdout=StringIO())


def vendor(alias):
    return connections[alias].vendor


def schema_problems(alias):
    return [finding.problem for finding in examine_schema(alias)]


@pytest.fixture
def restore(alias):
    """Return a function that executes statements at the end of the test, because MariaDB cannot roll back DDL."""
    statements = []
    yield statements.extend
    execute(alias, *statements)


def test_the_tables_of_the_migrations_are_right(alias):
    assert [*examine_schema(alias)] == []


# --- the schema, broken -------------------------------------------------------------------------------


def drop_index(alias, name, table):
    suffix = f" ON {table}" if vendor(alias) == "mysql" else ""
    return f"DROP INDEX {name}{suffix}"


@pytest.mark.commits
@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("evermuse_record_pending", RECORD),
        ("evermuse_record_identity", RECORD),
        ("evermuse_batch_due", BATCH),
        ("evermuse_batch_state", BATCH),
    ],
)
def test_a_missing_index_is_found_and_its_remedy_repairs_it(alias, name, table):
    execute(alias, drop_index(alias, name, table))
    (finding,) = examine_schema(alias)
    assert finding.problem == f"The index {name} is missing."
    assert finding.where == f"{alias}: {table}"
    apply(finding)
    assert schema_problems(alias) == []


ALTERED = {
    "other columns": "CREATE INDEX evermuse_record_closed ON evermuse_outbox_outboxrecord (id, closed_as)",
    "no condition": "CREATE INDEX evermuse_record_closed ON evermuse_outbox_outboxrecord (closed_as, id)",
    "another condition": (
        "CREATE INDEX evermuse_record_closed ON evermuse_outbox_outboxrecord (closed_as, id) "
        "WHERE closed_as IS NULL"
    ),
}


@pytest.mark.commits
@pytest.mark.parametrize("how", ALTERED)
def test_an_altered_index_is_found_and_its_remedy_repairs_it(alias, how):
    if vendor(alias) == "mysql" and how != "other columns":
        pytest.skip("no partial indexes")
    execute(alias, drop_index(alias, "evermuse_record_closed", RECORD), ALTERED[how])
    (finding,) = examine_schema(alias)
    assert finding.problem == "The index evermuse_record_closed is not the one of the model."
    execute(alias, drop_index(alias, "evermuse_record_closed", RECORD), finding.remedy.partition("then: ")[2])
    assert schema_problems(alias) == []


@pytest.mark.commits
def test_an_index_that_no_query_uses_is_found(alias):
    if vendor(alias) == "sqlite":
        pytest.skip("SQLite has no such indexes")
    if vendor(alias) == "postgresql":
        execute(
            alias,
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'evermuse_record_identity'::regclass",
        )
    else:
        execute(alias, f"ALTER TABLE {RECORD} ALTER INDEX evermuse_record_identity IGNORED")
    (finding,) = examine_schema(alias)
    assert finding.problem == "The index evermuse_record_identity is not valid, so no query uses it."
    if vendor(alias) == "postgresql":
        apply(finding)
    else:
        execute(alias, finding.remedy)
    assert schema_problems(alias) == []


@pytest.mark.commits
def test_a_missing_index_of_one_column_is_found(alias):
    with connections[alias].cursor() as cursor:
        entries = connections[alias].introspection.get_constraints(cursor, BATCH)
    names = [
        name for name, entry in entries.items() if entry["columns"] == ["remote_id"] and not entry["check"]
    ]
    execute(alias, *(drop_index(alias, name, BATCH) for name in names))
    try:
        assert schema_problems(alias) == ["There is no index on the column remote_id."]
    finally:
        execute(alias, f"CREATE INDEX {names[0]} ON {BATCH} (remote_id)")


def columns_of(alias, table, *, without=None):
    with connections[alias].cursor() as cursor:
        description = connections[alias].introspection.get_table_description(cursor, table)
    return [column.name for column in description if column.name != without]


@pytest.mark.commits
def test_a_missing_column_is_found(alias):
    execute(alias, f"ALTER TABLE {RECORD} DROP COLUMN trace_context")
    (finding,) = examine_schema(alias)
    assert finding.problem == "The column trace_context is missing."
    execute(alias, finding.remedy)
    assert schema_problems(alias) == []


@pytest.mark.commits
def test_an_altered_column_is_found(alias):
    table = "evermuse_outbox_outboxattempt"
    if vendor(alias) == "sqlite":
        execute(
            alias,
            f"ALTER TABLE {table} RENAME COLUMN seconds TO before",
            f"ALTER TABLE {table} ADD COLUMN seconds integer NOT NULL DEFAULT 0",
        )
        repair = [
            f"ALTER TABLE {table} DROP COLUMN seconds",
            f"ALTER TABLE {table} RENAME COLUMN before TO seconds",
        ]
    elif vendor(alias) == "postgresql":
        execute(
            alias,
            f"ALTER TABLE {table} ALTER COLUMN seconds TYPE integer, ALTER COLUMN seconds SET NOT NULL",
        )
        change = "ALTER COLUMN seconds TYPE double precision, ALTER COLUMN seconds DROP NOT NULL"
        repair = [f"ALTER TABLE {table} {change}"]
    else:
        execute(alias, f"ALTER TABLE {table} MODIFY seconds integer NOT NULL")
        repair = [f"ALTER TABLE {table} MODIFY seconds double precision NULL"]
    try:
        problems = schema_problems(alias)
        assert len(problems) == 2
        assert problems[0].lower().startswith("the column seconds is int")
        assert problems[1] == "The column seconds should allow NULL."
    finally:
        execute(alias, *repair)
    assert schema_problems(alias) == []


@pytest.mark.commits
def test_a_collation_that_takes_two_names_for_one_is_found(alias):
    if vendor(alias) != "mysql":
        pytest.skip("only MySQL and MariaDB ignore case")
    change = f"ALTER TABLE {RECORD} MODIFY workspace varchar(64) CHARACTER SET utf8mb4 COLLATE {{}} NOT NULL"
    execute(alias, change.format("utf8mb4_general_ci"))
    try:
        (finding,) = examine_schema(alias)
        assert "utf8mb4_general_ci" in finding.problem
        assert "utf8mb4_nopad_bin" in finding.remedy
    finally:
        execute(alias, change.format("utf8mb4_nopad_bin"))
    assert schema_problems(alias) == []


@pytest.mark.commits
def test_constraints_that_are_missing_altered_or_not_valid_are_found(alias):
    if vendor(alias) == "sqlite":
        pytest.skip("SQLite cannot drop a constraint")
    name = "evermuse_record_closed_as"
    drop, add = (
        f"ALTER TABLE {RECORD} DROP CONSTRAINT {name}",
        f"ALTER TABLE {RECORD} ADD CONSTRAINT {name} CHECK",
    )
    execute(alias, drop)
    (finding,) = examine_schema(alias)
    assert finding.problem == f"The constraint {name} is missing."
    execute(alias, finding.remedy)
    assert schema_problems(alias) == []

    execute(alias, drop, f"{add} (closed_as IS NULL OR closed_as IN ('rejected', 'superseded'))")
    (altered,) = examine_schema(alias)
    assert altered.problem == f"The constraint {name} is not the one of the model."
    execute(alias, drop, altered.remedy.partition("then: ")[2])
    assert schema_problems(alias) == []

    if vendor(alias) == "postgresql":
        execute(alias, drop, f"{finding.remedy.rstrip(';')} NOT VALID")
        (unchecked,) = examine_schema(alias)
        assert unchecked.problem.startswith(f"The constraint {name} was not checked")
        apply(unchecked)
        assert schema_problems(alias) == []


@pytest.mark.commits
def test_a_constraint_of_sqlite_is_read_from_its_statement(alias, monkeypatch):
    if vendor(alias) != "sqlite":
        pytest.skip("the others have a catalogue")
    constraint = OutboxRecord._meta.constraints[0]
    monkeypatch.setattr(constraint, "condition", OutboxRecord._meta.constraints[1].condition)
    assert schema_problems(alias) == [f"The constraint {constraint.name} is not the one of the model."]
    monkeypatch.setattr(constraint, "name", "evermuse_another")
    assert schema_problems(alias) == ["The constraint evermuse_another is missing."]


@pytest.mark.commits
def test_a_missing_table_is_found(alias):
    execute(alias, "ALTER TABLE evermuse_outbox_outboxworker RENAME TO hidden")
    try:
        assert schema_problems(alias) == ["The table evermuse_outbox_outboxworker is missing."]
        (finding,) = examine_database(alias)  # the heartbeats cannot be read either
        assert finding.problem.startswith("The database cannot be read: ")
    finally:
        execute(alias, "ALTER TABLE hidden RENAME TO evermuse_outbox_outboxworker")
