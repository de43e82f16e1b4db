"""The operation of a migration that leaves the index of a large table to ``manage.py outbox_indexes``."""

from __future__ import annotations

from typing import Any

from django.db.migrations.operations import AddIndex

from ...foreign_text import get_logger, log_ids

logger = get_logger(__name__)

SMALL_TABLE = 5_000
"""Rows up to which a migration builds an index itself: that takes less than a tenth of a second."""


def has_many_rows(model: Any, using: str) -> bool:
    """Return whether a table has more rows than a migration may read. This reads at most ``SMALL_TABLE`` rows."""
    return bool(model._base_manager.using(using).order_by().values("pk")[SMALL_TABLE : SMALL_TABLE + 1])


class AddIndexOnline(AddIndex):
    """Add an index to the state of the migrations. Build it at once only if the table has few rows.

    To build an index of a large table inside a migration would block every writer for minutes. So the migration only
    names the index there, and ``manage.py outbox_indexes`` builds it later, while records are enqueued and sent. Both
    look at the same declaration: the index in ``Meta.indexes`` of the model.
    """

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Build the index if the table is small."""
        if schema_editor.collect_sql:
            schema_editor.collected_sql.append(f"-- {self.index.name}: built by manage.py outbox_indexes")
            return
        model = to_state.apps.get_model(app_label, self.model_name)
        using = schema_editor.connection.alias
        if not self.allow_migrate_model(using, model):
            return
        if has_many_rows(model, using):
            logger.warning(
                "the index %s is not built yet: run manage.py outbox_indexes --database %s",
                self.index.name,
                using,
                extra=log_ids(database=using),
            )
        else:
            super().database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Remove the index if it was built."""
        connection = schema_editor.connection
        table = to_state.apps.get_model(app_label, self.model_name)._meta.db_table
        with connection.cursor() as cursor:
            names = connection.introspection.get_constraints(cursor, table)
        if self.index.name in names:
            super().database_backwards(app_label, schema_editor, from_state, to_state)

    def describe(self) -> str:
        """Return the line that ``migrate --plan`` shows."""
        return f"{super().describe()}; on a large table: manage.py outbox_indexes"
