"""Dropped payloads, and the progress of imports. Made by ``makemigrations``, except for the last operation: RunPython."""

import uuid
from importlib import import_module

import django.db.models.deletion
from django.db import migrations, models

import evermuse_outbox.models.indexes

initial = import_module("evermuse_outbox.migrations.0001_initial")


def compare_workspace_exactly(apps, schema_editor):
    """Compare the workspace of an import as 0001 compares those of the other tables."""
    connection = schema_editor.connection
    if connection.vendor != "mysql":
        return
    meta = apps.get_model("evermuse_outbox", "OutboxImport")._meta
    column, quote = meta.get_field("workspace"), schema_editor.quote_name
    kind = f"CHARACTER SET utf8mb4 COLLATE {initial.exact_collation(connection)} NOT NULL"
    schema_editor.execute(
        f"ALTER TABLE {quote(meta.db_table)} MODIFY {quote(column.column)} {column.db_type(connection)} {kind}"
    )


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0005_search_terms"),
    ]

    operations = [
        migrations.CreateModel(
            name="OutboxImport",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "scope",
                    models.CharField(editable=False, max_length=64, unique=True, verbose_name="scope"),
                ),
                ("workspace", models.CharField(max_length=64, verbose_name="workspace")),
                (
                    "name",
                    models.CharField(
                        help_text="The path of the file, or the name given to the import.",
                        max_length=400,
                        verbose_name="name",
                    ),
                ),
                (
                    "position",
                    models.PositiveBigIntegerField(
                        default=0, help_text="Bytes of the file that were read.", verbose_name="position"
                    ),
                ),
                (
                    "sha256",
                    models.CharField(
                        help_text="Hash of the bytes that were read.", max_length=64, verbose_name="SHA-256"
                    ),
                ),
                ("lines", models.PositiveBigIntegerField(default=0, verbose_name="lines")),
                ("records", models.PositiveBigIntegerField(default=0, verbose_name="records")),
                ("bad_lines", models.PositiveBigIntegerField(default=0, verbose_name="bad lines")),
                (
                    "bad_bytes",
                    models.PositiveBigIntegerField(
                        default=0,
                        help_text="Size of the file with the bad lines.",
                        verbose_name="bytes of bad lines",
                    ),
                ),
                (
                    "run",
                    models.UUIDField(
                        default=uuid.uuid4,
                        editable=False,
                        help_text="Fencing token of the process that imports it.",
                        verbose_name="run",
                    ),
                ),
                ("started_at", models.DateTimeField(verbose_name="started at")),
                ("updated_at", models.DateTimeField(verbose_name="updated at")),
                ("finished_at", models.DateTimeField(blank=True, null=True, verbose_name="finished at")),
                (
                    "action",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="evermuse_outbox.outboxaction",
                        verbose_name="manual action",
                    ),
                ),
            ],
            options={
                "verbose_name": "import",
                "verbose_name_plural": "imports",
                "ordering": ["-pk"],
            },
        ),
        migrations.AddField(
            model_name="outboxbatch",
            name="payloads_dropped_at",
            field=models.DateTimeField(
                blank=True,
                help_text="When the payloads of its delivered records were dropped; see PAYLOAD_RETENTION_DAYS.",
                null=True,
                verbose_name="payloads dropped at",
            ),
        ),
        migrations.AddField(
            model_name="outboxrecord",
            name="payload_sha256",
            field=models.CharField(
                blank=True,
                help_text="Hash of the dropped line. Until the payload is dropped, there is none.",
                max_length=64,
                null=True,
                verbose_name="SHA-256 of the payload",
            ),
        ),
        # The list of choices is that of the model, so a new kind of action is added here, too.
        migrations.AlterField(
            model_name="outboxaction",
            name="kind",
            field=models.CharField(
                choices=[
                    ("retry", "retry records"),
                    ("discard", "discard records"),
                    ("resume", "resume"),
                    ("force_resume", "resume before the end of retryAfter"),
                    ("retry_now", "send or poll a batch now"),
                    ("isolate", "isolate a batch"),
                    ("give_up", "give up a batch"),
                    ("hold", "hold a workspace"),
                    ("release", "release a workspace"),
                    ("pause", "pause"),
                    ("release_doubt", "send a batch in doubt again"),
                    ("edit", "edit and retry a record"),
                    ("fix", "fix records"),
                    ("erase", "erase records"),
                    ("import", "import records from a file"),
                ],
                max_length=16,
                verbose_name="action",
            ),
        ),
        migrations.AddIndex(
            model_name="outboxbatch",
            index=evermuse_outbox.models.indexes.PartialIndex(
                fields=["state", "finished_at", "id"],
                instead=("state", "payloads_dropped_at", "finished_at", "id"),
                name="evermuse_batch_payloads",
                where=models.Q(("finished_at__isnull", False), ("payloads_dropped_at__isnull", True)),
            ),
        ),
        migrations.RunPython(compare_workspace_exactly, migrations.RunPython.noop, atomic=False),
    ]
