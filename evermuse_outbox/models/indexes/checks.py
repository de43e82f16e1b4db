"""The operation of a migration that replaces a check constraint of a large table without reading its rows."""

from __future__ import annotations

from typing import Any

from django.db.migrations.operations.base import Operation
from django.db.models import CheckConstraint

from .online import has_many_rows

COLUMN = """
    SELECT column_type, collation_name FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = %s AND column_name = %s"""


class ReplaceCheckOnline(Operation):
    """Replace a check constraint of one column by one of the same name that allows more.

    The rows meet the new condition because they met the old one, so a large table is not read:

    * PostgreSQL adds the constraint as ``NOT VALID``, and ``manage.py outbox_indexes`` validates it later.
    * MariaDB would copy the table. A constraint of the column needs no copy; its name is that of the column.
    * SQLite copies the table.
    """

    reversible = True

    def __init__(self, model_name: str, column: str, old: CheckConstraint, new: CheckConstraint) -> None:
        self.model_name, self.column, self.old, self.new = model_name, column, old, new

    def deconstruct(self) -> Any:
        """Return what a migration needs to name the operation."""
        return type(self).__name__, [self.model_name, self.column, self.old, self.new], {}

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Replace the constraint in the state of the migrations."""
        state.remove_constraint(app_label, self.model_name.lower(), self.old.name)
        state.add_constraint(app_label, self.model_name.lower(), self.new)

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Replace the constraint in the database."""
        self._replace(app_label, schema_editor, to_state, self.old, self.new)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Put the old constraint back. Rows that only the new one allows are an error on PostgreSQL and SQLite."""
        self._replace(app_label, schema_editor, to_state, self.new, self.old)

    def describe(self) -> str:
        """Return the line that ``migrate --plan`` shows."""
        return f"Replace constraint {self.new.name} on model {self.model_name}"

    @property
    def migration_name_fragment(self) -> str:
        """Return the part of a migration's name."""
        return f"replace_{self.new.name}".lower()

    def _replace(
        self, app_label: str, editor: Any, state: Any, old: CheckConstraint, new: CheckConstraint
    ) -> None:
        model = state.apps.get_model(app_label, self.model_name)
        if not self.allow_migrate_model(editor.connection.alias, model):
            return
        match editor.connection.vendor:
            case "postgresql":
                _replace_on_postgresql(editor, model, old, new)
            case "mysql" if editor.connection.mysql_is_mariadb:
                _replace_on_mariadb(editor, model, self.column, old, new)
            case _:
                editor.remove_constraint(model, old)
                editor.add_constraint(model, new)


def _replace_on_postgresql(editor: Any, model: Any, old: CheckConstraint, new: CheckConstraint) -> None:
    table, name = map(editor.quote_name, (model._meta.db_table, old.name))
    add = str(new.create_sql(model, editor)).partition(" ADD ")[2]
    # One statement waits once for the lock, and the table is never without a constraint.
    editor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}, ADD {add} NOT VALID", None)
    if not editor.collect_sql and not has_many_rows(model, editor.connection.alias):
        editor.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}", None)


def _replace_on_mariadb(
    editor: Any, model: Any, column: str, old: CheckConstraint, new: CheckConstraint
) -> None:
    table, name, quoted = map(editor.quote_name, (model._meta.db_table, old.name, column))
    kind, collation = _read_column(editor, model, column)
    modify = f"ALTER TABLE {table} MODIFY {quoted} {kind} COLLATE {collation} NULL"
    editor.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}, ALGORITHM=INSTANT", None)
    if editor.collect_sql or has_many_rows(model, editor.connection.alias):
        condition = str(new.create_sql(model, editor)).partition(" CHECK ")[2]
        editor.execute(f"{modify} CHECK {condition}, ALGORITHM=INSTANT", None)
    else:
        editor.execute(f"{modify}, ALGORITHM=INSTANT", None)  # without the constraint of the column
        editor.add_constraint(model, new)


def _read_column(editor: Any, model: Any, column: str) -> tuple[str, str]:
    """Return the type and the collation of a column, which MODIFY must repeat."""
    with editor.connection.cursor() as cursor:
        cursor.execute(COLUMN, [model._meta.db_table, column])
        kind, collation = cursor.fetchone()
    return kind, collation
