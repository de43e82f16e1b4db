"""The operation of migrations that lets MySQL and MariaDB compare names exactly."""

from functools import partial
from importlib import import_module

from django.db import migrations

initial = import_module("evermuse_outbox.migrations.0001_initial")


def compare_exactly(**columns):
    """Return the operation that compares names with case and trailing spaces; ``columns`` are those of each model.

    The default collations of MySQL and MariaDB ignore both. Other databases compare exactly.
    """
    return migrations.RunPython(partial(_change, columns), migrations.RunPython.noop, atomic=False)


def _change(columns, apps, schema_editor):
    connection = schema_editor.connection
    if connection.vendor != "mysql":
        return
    quote = schema_editor.quote_name
    kind = f"CHARACTER SET utf8mb4 COLLATE {initial.exact_collation(connection)} NOT NULL"
    for name, names in columns.items():
        model = apps.get_model("evermuse_outbox", name)
        fields = [model._meta.get_field(each) for each in names]
        changes = ", ".join(f"MODIFY {quote(f.column)} {f.db_type(connection)} {kind}" for f in fields)
        schema_editor.execute(f"ALTER TABLE {quote(model._meta.db_table)} {changes}")
