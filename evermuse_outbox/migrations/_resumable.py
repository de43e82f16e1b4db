"""A migration that can be applied again after it was interrupted on MySQL and MariaDB.

These databases commit each change of a table at once. A process that dies between two of them leaves the first one done,
and the migration unrecorded. Other databases roll it back.
"""

from functools import partial

from django.db import OperationalError, migrations

DONE = frozenset({1050, 1060, 1061, 1826, 3822})
"""Errors of a statement that was executed before: the table, column, index, or constraint of this name exists."""


class ResumableMigration(migrations.Migration):
    """A migration whose statements are passed over if an interrupted run has executed them."""

    def apply(self, project_state, schema_editor, collect_sql=False):
        """Apply the operations. The editor executes the last statements afterwards."""
        if schema_editor.connection.vendor == "mysql":
            schema_editor.execute = partial(execute_once, schema_editor.execute)
        return super().apply(project_state, schema_editor, collect_sql)


def execute_once(execute, *arguments, **options):
    """Execute a statement, unless it would create what exists."""
    try:
        return execute(*arguments, **options)
    except OperationalError as error:
        if not error.args or error.args[0] not in DONE:
            raise
        return None
