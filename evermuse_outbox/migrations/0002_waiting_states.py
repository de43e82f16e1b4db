"""Waiting states and manual actions. Made by ``makemigrations``, except for the last operation: RunPython."""

import uuid
from importlib import import_module

from django.db import migrations, models

initial = import_module("evermuse_outbox.migrations.0001_initial")


def compare_workspace_exactly(apps, schema_editor):
    """Compare the workspace of a manual action as 0001 compares those of the other tables."""
    connection = schema_editor.connection
    if connection.vendor != "mysql":
        return
    meta = apps.get_model("evermuse_outbox", "OutboxAction")._meta
    column, quote = meta.get_field("workspace"), schema_editor.quote_name
    kind = f"CHARACTER SET utf8mb4 COLLATE {initial.exact_collation(connection)} NOT NULL"
    schema_editor.execute(
        f"ALTER TABLE {quote(meta.db_table)} MODIFY {quote(column.column)} {column.db_type(connection)} {kind}"
    )


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="OutboxAction",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("at", models.DateTimeField(db_index=True, verbose_name="time")),
                (
                    "by",
                    models.CharField(
                        help_text="User name in the admin, or user@host of the process that made the change.",
                        max_length=150,
                        verbose_name="by",
                    ),
                ),
                (
                    "kind",
                    models.CharField(
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
                        ],
                        max_length=16,
                        verbose_name="action",
                    ),
                ),
                (
                    "workspace",
                    models.CharField(blank=True, default="", max_length=64, verbose_name="workspace"),
                ),
                ("target", models.CharField(blank=True, default="", max_length=400, verbose_name="target")),
                ("records", models.PositiveBigIntegerField(blank=True, null=True, verbose_name="records")),
                ("reason", models.TextField(blank=True, default="", verbose_name="reason")),
                ("result", models.TextField(blank=True, default="", verbose_name="result")),
            ],
            options={
                "verbose_name": "manual action",
                "verbose_name_plural": "manual actions",
                "ordering": ["-pk"],
            },
        ),
        migrations.AddField(
            model_name="outboxbatch",
            name="unknown_since",
            field=models.DateTimeField(
                blank=True,
                help_text="Time of the first 404 for it since the last status.",
                null=True,
                verbose_name="unknown since",
            ),
        ),
        migrations.AddField(
            model_name="outboxworkspace",
            name="batch_count",
            field=models.PositiveBigIntegerField(
                default=0,
                help_text="Number of batches of pending records, counted while sealing.",
                verbose_name="sealed batches",
            ),
        ),
        migrations.AddField(
            model_name="outboxworkspace",
            name="epoch",
            field=models.UUIDField(
                default=uuid.uuid4,
                editable=False,
                help_text="Changes when a person releases a restored database.",
                verbose_name="epoch",
            ),
        ),
        migrations.AddField(
            model_name="outboxworkspace",
            name="released_at",
            field=models.DateTimeField(
                blank=True,
                help_text="When a person released it after a restore. Batches that Evermuse had by then raise no alarm.",
                null=True,
                verbose_name="released at",
            ),
        ),
        migrations.AlterField(
            model_name="outboxworkspace",
            name="state",
            field=models.CharField(
                choices=[
                    ("active", "active"),
                    ("paused", "paused"),
                    ("no_credits", "without credits"),
                    ("backing_off", "backing off"),
                    ("throttled", "throttled"),
                    ("restored", "restored"),
                ],
                default="active",
                max_length=12,
                verbose_name="state",
            ),
        ),
        migrations.RunPython(compare_workspace_exactly, migrations.RunPython.noop, atomic=False),
    ]
