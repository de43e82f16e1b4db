"""Set the fill factor of the records on PostgreSQL. The new initial migration explains it."""

from django.db import migrations


def _set_storage(apps, schema_editor, parameters):
    if schema_editor.connection.vendor == "postgresql":
        table = schema_editor.quote_name(apps.get_model("evermuse_outbox", "OutboxRecord")._meta.db_table)
        schema_editor.execute(f"ALTER TABLE {table} {parameters}")


def leave_room(apps, schema_editor):
    _set_storage(apps, schema_editor, "SET (fillfactor = 50)")


def fill_up(apps, schema_editor):
    _set_storage(apps, schema_editor, "RESET (fillfactor)")


class Migration(migrations.Migration):
    dependencies = [("evermuse_outbox", "0001_initial")]
    operations = [migrations.RunPython(leave_room, fill_up)]
