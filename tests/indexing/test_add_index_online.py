"""A migration builds an index of a small table, and leaves that of a large one to the command."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.db import connections, models
from django.db.migrations.state import ProjectState

from evermuse_outbox import indexing
from evermuse_outbox.models import OutboxRecord
from evermuse_outbox.models.indexes import AddIndexOnline, online
from tests.rows import record_in

pytestmark = pytest.mark.commits

NAME, TABLE = "evermuse_record_size", OutboxRecord._meta.db_table


@pytest.fixture
def operation(alias):
    """Return a function that applies the operation, forwards or backwards."""
    added = AddIndexOnline("outboxrecord", models.Index(name=NAME, fields=["size"]))
    before = ProjectState.from_apps(apps)
    after = before.clone()
    added.state_forwards("evermuse_outbox", after)

    def apply(*, backwards=False):
        with connections[alias].schema_editor() as editor:
            if backwards:
                added.database_backwards("evermuse_outbox", editor, after, before)
            else:
                added.database_forwards("evermuse_outbox", editor, before, after)

    yield apply
    apply(backwards=True)


def exists(alias):
    with connections[alias].cursor() as cursor:
        return NAME in connections[alias].introspection.get_constraints(cursor, TABLE)


def test_the_index_of_a_small_table_is_built_at_once(alias, operation):
    record_in(alias, "pending")
    operation()
    assert exists(alias)
    operation(backwards=True)
    assert not exists(alias)


def test_the_index_of_a_large_table_is_left_to_the_command(alias, operation, monkeypatch, caplog):
    monkeypatch.setattr(online, "SMALL_TABLE", 1)
    for _ in range(2):
        record_in(alias, "pending")
    operation()
    assert not exists(alias)
    assert (
        f"the index {NAME} is not built yet: run manage.py outbox_indexes --database {alias}" in caplog.text
    )
    operation(backwards=True)


def test_sqlmigrate_names_the_command(alias, operation):
    added = AddIndexOnline("outboxrecord", models.Index(name=NAME, fields=["size"]))
    with connections[alias].schema_editor(collect_sql=True) as editor:
        added.database_forwards("evermuse_outbox", editor, None, None)
    assert editor.collected_sql == [f"-- {NAME}: built by manage.py outbox_indexes"]
    assert indexing.find_steps(alias) == []
