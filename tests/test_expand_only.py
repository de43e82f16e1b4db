"""Migrations only expand: workers of the version before run on the new tables, and large tables are not rewritten.

Each migration after ``LAST_RELEASED`` is examined twice: what its operations are, and what the databases do with them.
"""

from __future__ import annotations

import re
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connections, migrations, models
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ModelState, ProjectState
from django.db.models import CheckConstraint, Q

from evermuse_outbox.models.indexes import AddIndexOnline, ReplaceCheckOnline
from tests.test_upgrade import add_rows, model_at

APP = "evermuse_outbox"
LAST_RELEASED = "0011_latencies"
"""The last migration of the version before. Set it to the newest migration after each release."""

LOADER = MigrationLoader(None)
NEW = sorted(name for app, name in LOADER.disk_migrations if app == APP and name > LAST_RELEASED)

LARGE = ("outboxrecord", "outboxbatch", "outboxattempt", "outboxrejection", "outboxterm")
"""Tables that grow with the records."""

SAFE_EVERYWHERE = (
    migrations.CreateModel,
    migrations.AlterModelOptions,
    migrations.AlterModelManagers,
    migrations.RunPython,  # the statements that it executes are examined below
)


def problem_of(operation, before, created=()):
    """Return what the version before, or a large table, would suffer from an operation; empty if nothing.

    Args:
        operation: The operation.
        before: The state of the migrations before it.
        created: Models that new migrations have created. The version before does not know them.
    """
    name = getattr(operation, "model_name", getattr(operation, "name", "")).lower()
    if isinstance(operation, SAFE_EVERYWHERE) or name in created:
        return ""
    match operation:
        case migrations.AddField(field=field):
            if not field.null:
                return f"{name}: an INSERT of the version before has no value for {operation.name}"
            if field.has_default() or field.db_index or field.unique:
                return f"{name}: {operation.name} has a default or an index"
            return ""
        case migrations.AlterField(field=field):
            editor = connections["default"].SchemaEditorClass(connections["default"], collect_sql=True)
            old = before.models[APP, name].get_field(operation.name)
            is_same = not editor._field_should_be_altered(
                named(old, operation.name), named(field, operation.name)
            )
            return "" if is_same else f"{name}: {operation.name} changes in the database"
        case AddIndexOnline() | ReplaceCheckOnline():
            return ""
        case migrations.AddIndex():
            return f"{name}: the index blocks writers; use AddIndexOnline" if name in LARGE else ""
        case migrations.SeparateDatabaseAndState():
            return "".join(problem_of(each, before, created) for each in operation.database_operations)
        case _:
            return f"{name}: {type(operation).__name__}"


def named(field, name):
    field = field.clone()
    field.set_attributes_from_name(name)
    return field


def problems_of(migration):
    """Return the problems of one migration."""
    state = LOADER.project_state(list(LOADER.disk_migrations[APP, migration].dependencies))
    problems = []
    for operation in LOADER.disk_migrations[APP, migration].operations:
        problems.append(problem_of(operation, state, created_models()))
        state = state.clone()
        operation.state_forwards(APP, state)
    return [problem for problem in problems if problem]


def created_models():
    return {
        operation.name.lower()
        for name in NEW
        for operation in LOADER.disk_migrations[APP, name].operations
        if isinstance(operation, migrations.CreateModel)
    }


@pytest.mark.parametrize("migration", NEW)
def test_a_migration_locks_one_table_that_workers_use(migration):
    """A transaction with the locks of two tables could deadlock with a worker, which locks them in another order."""
    if not LOADER.disk_migrations[APP, migration].atomic:
        return  # each operation is a transaction of its own
    altered = {
        operation.model_name.lower()
        for operation in LOADER.disk_migrations[APP, migration].operations
        if isinstance(operation, migrations.AddField | ReplaceCheckOnline | migrations.AddIndex)
    }
    assert len(altered - created_models()) <= 1


@pytest.mark.parametrize("migration", NEW)
def test_a_migration_only_expands(migration):
    assert problems_of(migration) == []


def state_with_a_record():
    state = ProjectState()
    fields = [("id", models.BigAutoField(primary_key=True)), ("size", models.IntegerField(null=True))]
    state.add_model(ModelState(APP, "OutboxRecord", fields))
    return state


INDEX = models.Index(name="i", fields=["size"])
CHECK = CheckConstraint(name="c", condition=Q(size__gt=0))
BREAKING = {
    "a column without a value": migrations.AddField("OutboxRecord", "x", models.IntegerField(default=0)),
    "a default": migrations.AddField("OutboxRecord", "x", models.IntegerField(null=True, default=0)),
    "an indexed column": migrations.AddField(
        "OutboxRecord", "x", models.IntegerField(null=True, db_index=True)
    ),
    "another type": migrations.AlterField("OutboxRecord", "size", models.BigIntegerField(null=True)),
    "NOT NULL": migrations.AlterField("OutboxRecord", "size", models.IntegerField()),
    "an index": migrations.AddIndex("OutboxRecord", INDEX),
    "a constraint": migrations.AddConstraint("OutboxRecord", CHECK),
    "no column": migrations.RemoveField("OutboxRecord", "size"),
    "another name": migrations.RenameField("OutboxRecord", "size", "bytes"),
    "no table": migrations.DeleteModel("OutboxRecord"),
    "an operation inside": migrations.SeparateDatabaseAndState([migrations.AddIndex("OutboxRecord", INDEX)]),
}


@pytest.mark.parametrize("name", BREAKING)
def test_an_operation_that_breaks_the_version_before_is_found(name):
    assert problem_of(BREAKING[name], state_with_a_record())


HARMLESS = {
    "a column that allows NULL": migrations.AddField("OutboxRecord", "x", models.IntegerField(null=True)),
    "other choices": migrations.AlterField(
        "OutboxRecord", "size", models.IntegerField(null=True, choices=[(1, "a")])
    ),
    "an index for later": AddIndexOnline("OutboxRecord", INDEX),
    "an index of a small table": migrations.AddIndex("OutboxRun", INDEX),
    "only the state": migrations.SeparateDatabaseAndState(
        state_operations=[migrations.AddIndex("OutboxRecord", INDEX)]
    ),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_operation_is_none(name):
    assert problem_of(HARMLESS[name], state_with_a_record()) == ""


# --- what the databases do ----------------------------------------------------------------------------


def columns(alias, table):
    """Return column → whether an INSERT may leave it out."""
    connection = connections[alias]
    with connection.cursor() as cursor:
        described = connection.introspection.get_table_description(cursor, table)
        sequences = {each["column"] for each in connection.introspection.get_sequences(cursor, table)}
    return {
        each.name: each.null_ok or each.default is not None or each.name in sequences for each in described
    }


def test_the_version_before_may_leave_out_every_new_column(alias):
    state = LOADER.project_state((APP, LAST_RELEASED))
    for model in state.apps.get_models():
        if model._meta.app_label == APP:
            known = {field.column for field in model._meta.concrete_fields}
            required = [
                name
                for name, is_optional in columns(alias, model._meta.db_table).items()
                if name not in known and not is_optional
            ]
            assert required == [], model._meta.db_table


@pytest.mark.commits
def test_rows_of_the_version_before_are_inserted_into_the_new_tables(alias):
    add_rows(alias, LAST_RELEASED)
    assert model_at(alias, LAST_RELEASED, "OutboxRecord").count() == 2


@pytest.fixture
def last_release(alias):
    """Go back to the tables of the version before; afterwards, the newest ones are there again."""
    call_command("migrate", APP, LAST_RELEASED, database=alias, verbosity=0)
    yield
    call_command("migrate", APP, database=alias, verbosity=0)
    call_command("outbox_indexes", database=alias, stdout=StringIO())


LARGE_TABLE = rf"\W{APP}_({'|'.join(LARGE)})\b"
ALLOWED = {
    "postgresql": r"ALTER TABLE \S+ (ADD COLUMN \S+ \S+( \S+)? NULL$|DROP CONSTRAINT .* NOT VALID$|SET \()|COMMENT ON ",
    "mysql": r"ALTER TABLE .*, ALGORITHM=INSTANT$",
    "sqlite": r'ALTER TABLE \S+ ADD COLUMN|(CREATE|DROP|ALTER) TABLE|CREATE INDEX|INSERT INTO "new__',  # it copies
}
LOOKS = (
    r"SELECT .* LIMIT 1( OFFSET \d+)?$|SELECT .*(information_schema|pg_|sqlite_master)|SHOW |PRAGMA table_"
)
"""Statements that read a few rows, or the catalogue."""


@pytest.mark.commits
def test_no_database_rewrites_or_reads_a_large_table(alias, last_release, monkeypatch):
    monkeypatch.setattr("evermuse_outbox.models.indexes.online.SMALL_TABLE", 1)
    add_rows(alias, LAST_RELEASED)
    connection, statements = connections[alias], []

    def record(execute, sql, *rest):
        sql = instant(connection, " ".join(str(sql).split()))
        statements.append(sql)
        return execute(sql, *rest)

    before = files_of(alias)
    with connection.execute_wrapper(record):
        call_command("migrate", APP, database=alias, verbosity=0)
    assert files_of(alias) == before
    bad = [
        sql
        for sql in statements
        if re.search(LARGE_TABLE, sql)
        and not re.match(f"{ALLOWED[connection.vendor]}|{LOOKS}", sql, re.DOTALL)
    ]
    assert bad == []


def instant(connection, sql):
    """Let MariaDB refuse what it cannot do by a change of its dictionary alone."""
    if (
        connection.vendor == "mysql"
        and re.match(f"ALTER TABLE {LARGE_TABLE}", sql)
        and "ALGORITHM=" not in sql
    ):
        return f"{sql}, ALGORITHM=INSTANT"
    return sql


def files_of(alias):
    """Return PostgreSQL's files of the large tables, which a rewrite replaces."""
    if connections[alias].vendor != "postgresql":
        return None
    with connections[alias].cursor() as cursor:
        tables = [f"{APP}_{name}" for name in LARGE]
        cursor.execute("SELECT relname, relfilenode FROM pg_class WHERE relname = ANY(%s)", [tables])
        return sorted(cursor.fetchall())
