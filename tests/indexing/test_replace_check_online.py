"""A check constraint of a large table is replaced without reading its rows, on the databases that can."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.db import IntegrityError, OperationalError, connections, transaction
from django.db.migrations.state import ProjectState
from django.db.models import CheckConstraint, Q

from evermuse_outbox import indexing
from evermuse_outbox.insight.doctor.schema import examine_schema
from evermuse_outbox.models import OutboxRecord
from evermuse_outbox.models.indexes import ReplaceCheckOnline, online
from tests.rows import record_in

pytestmark = pytest.mark.commits

APP, NAME, TABLE = "evermuse_outbox", "evermuse_record_closed_as", OutboxRecord._meta.db_table
OLD = next(each for each in OutboxRecord._meta.constraints if each.name == NAME)
STATES = [*dict(OutboxRecord._meta.get_field("closed_as").choices), "later"]
NEW = CheckConstraint(name=NAME, condition=Q(closed_as__isnull=True) | Q(closed_as__in=STATES))


@pytest.fixture
def replace(alias, monkeypatch):
    """Return a function that replaces the constraint, forwards or backwards."""
    operation = ReplaceCheckOnline("outboxrecord", "closed_as", OLD, NEW)
    before = ProjectState.from_apps(apps)
    after = before.clone()
    operation.state_forwards(APP, after)

    def apply(*, backwards=False):
        with connections[alias].schema_editor() as editor:
            if backwards:
                operation.database_backwards(APP, editor, after, before)
            else:
                operation.database_forwards(APP, editor, before, after)

    apply.state = after
    yield apply
    OutboxRecord.rows.using(alias).filter(closed_as="later").delete()
    monkeypatch.setattr(online, "SMALL_TABLE", 1_000)
    apply(backwards=True)
    assert [*examine_schema(alias)] == []


def allows(alias, state):
    try:
        with transaction.atomic(using=alias):
            row = record_in(alias, "pending")
            OutboxRecord.rows.using(alias).filter(pk=row.pk).update(closed_as=state)
    except (IntegrityError, OperationalError):
        return False
    return True


def test_the_state_of_the_migrations_has_the_new_constraint(alias, replace):
    model = replace.state.models[APP, "outboxrecord"]
    assert [each for each in model.options["constraints"] if each.name == NAME] == [NEW]


@pytest.mark.parametrize("small_table", [0, 1_000], ids=["large", "small"])
def test_the_new_constraint_applies_at_once(alias, replace, monkeypatch, small_table):
    monkeypatch.setattr(online, "SMALL_TABLE", small_table)
    record_in(alias, "pending")
    assert not allows(alias, "later")
    replace()
    assert allows(alias, "later")
    assert not allows(alias, "never")
    is_left = connections[alias].vendor == "postgresql" and not small_table
    assert [step.name for step in indexing.find_steps(alias)] == ([NAME] if is_left else [])
    OutboxRecord.rows.using(alias).filter(closed_as="later").delete()
    replace(backwards=True)
    assert not allows(alias, "later")
    assert [finding for finding in examine_schema(alias) if "missing" in finding.problem] == []
    replace()


def test_a_large_table_is_not_copied(alias, replace, monkeypatch):
    if connections[alias].vendor == "sqlite":
        pytest.skip("SQLite copies the table")
    monkeypatch.setattr(online, "SMALL_TABLE", 0)
    record_in(alias, "pending")
    statements = []
    with connections[alias].execute_wrapper(
        lambda run, sql, *rest: (statements.append(sql), run(sql, *rest))[1]
    ):
        replace()
    changes = [sql for sql in statements if sql.startswith("ALTER")]
    promise = {"postgresql": "NOT VALID", "mysql": "ALGORITHM=INSTANT"}[connections[alias].vendor]
    assert changes
    assert all(sql.endswith(promise) for sql in changes)
