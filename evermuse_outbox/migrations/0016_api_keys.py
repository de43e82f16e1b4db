"""The key that a batch is sent with, and which keys of a workspace are blocked."""

from django.db import migrations, models


class AddMissingField(migrations.AddField):
    """Add a field unless its column exists: a migration that is not atomic may have been interrupted."""

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        model = to_state.apps.get_model(app_label, self.model_name)
        connection = schema_editor.connection
        with connection.cursor() as cursor:
            columns = connection.introspection.get_table_description(cursor, model._meta.db_table)
        if self.name not in {column.name for column in columns}:
            super().database_forwards(app_label, schema_editor, from_state, to_state)


class Migration(migrations.Migration):
    # A transaction with the locks of three tables could deadlock with a worker.
    atomic = False

    dependencies = [
        ("evermuse_outbox", "0015_rules"),
    ]

    operations = [
        AddMissingField(
            model_name="outboxbatch",
            name="api_key",
            field=models.CharField(
                help_text="Fingerprint of the key that sends it.",
                max_length=24,
                null=True,
                verbose_name="API key",
            ),
        ),
        AddMissingField(
            model_name="outboxattempt",
            name="api_key",
            field=models.CharField(
                help_text="Fingerprint of the key that it was made with.",
                max_length=24,
                null=True,
                verbose_name="API key",
            ),
        ),
        AddMissingField(
            model_name="outboxworkspace",
            name="key_pool",
            field=models.JSONField(
                blank=True,
                help_text="Only with several API keys: which of them are blocked, by fingerprint.",
                null=True,
                verbose_name="API keys",
            ),
        ),
    ]
