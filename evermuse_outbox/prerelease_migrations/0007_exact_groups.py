"""Compare the names of groups and workspaces exactly on MySQL and MariaDB. This rewrites each table once."""

from django.db import migrations

GROUP = ("workspace", "type", "product_id")
NAMES = {
    "OutboxRecord": GROUP,
    "OutboxBatch": GROUP,
    "OutboxGroup": GROUP,
    "OutboxAttempt": ("workspace",),
    "OutboxWorkspace": ("name",),
}


def _modify(apps, schema_editor, kind):
    connection = schema_editor.connection
    if connection.vendor != "mysql":
        return
    quote = schema_editor.quote_name
    for table, names in NAMES.items():
        model = apps.get_model("evermuse_outbox", table)
        columns = [model._meta.get_field(name) for name in names]
        changes = ", ".join(
            f"MODIFY {quote(column.column)} {column.db_type(connection)}{kind} NOT NULL" for column in columns
        )
        schema_editor.execute(f"ALTER TABLE {quote(model._meta.db_table)} {changes}")


def collation_of(connection):
    """Return the collation of this server that distinguishes all names."""
    if connection.mysql_is_mariadb:
        return "utf8mb4_nopad_bin"
    # MySQL before 8.0.17 has no collation that respects trailing spaces; utf8mb4_bin respects everything else.
    return "utf8mb4_0900_bin" if connection.mysql_version >= (8, 0, 17) else "utf8mb4_bin"


def compare_exactly(apps, schema_editor):
    if schema_editor.connection.vendor == "mysql":
        collation = collation_of(schema_editor.connection)
        _modify(apps, schema_editor, f" CHARACTER SET utf8mb4 COLLATE {collation}")


def compare_as_usual(apps, schema_editor):
    _modify(apps, schema_editor, "")


class Migration(migrations.Migration):
    dependencies = [("evermuse_outbox", "0006_growth")]
    operations = [migrations.RunPython(compare_exactly, compare_as_usual, atomic=False)]
