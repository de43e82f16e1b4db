"""Workspaces in which a new record would wait for long.

Made by ``makemigrations``, except for the last operation: RunPython.
"""

from importlib import import_module

from django.db import migrations, models

initial = import_module("evermuse_outbox.migrations.0001_initial")


def compare_workspaces_exactly(apps, schema_editor):
    """Compare names with case and trailing spaces: the default collations of MySQL and MariaDB ignore both."""
    connection = schema_editor.connection
    if connection.vendor != "mysql":
        return
    quote = schema_editor.quote_name
    model = apps.get_model("evermuse_outbox", "OutboxPressure")
    field = model._meta.get_field("workspace")
    kind = f"CHARACTER SET utf8mb4 COLLATE {initial.exact_collation(connection)} NOT NULL"
    change = f"MODIFY {quote(field.column)} {field.db_type(connection)} {kind}"
    schema_editor.execute(f"ALTER TABLE {quote(model._meta.db_table)} {change}")


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0017_data_keys"),
    ]

    operations = [
        migrations.CreateModel(
            name="OutboxPressure",
            fields=[
                (
                    "scope",
                    models.CharField(
                        editable=False,
                        max_length=64,
                        primary_key=True,
                        serialize=False,
                        verbose_name="scope",
                    ),
                ),
                ("workspace", models.CharField(max_length=64, verbose_name="workspace")),
                ("since", models.DateTimeField(verbose_name="since")),
            ],
            options={"verbose_name": "pressure", "verbose_name_plural": "pressures"},
        ),
        migrations.RunPython(compare_workspaces_exactly, migrations.RunPython.noop, atomic=False),
    ]
