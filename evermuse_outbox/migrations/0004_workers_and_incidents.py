"""Heartbeats of workers, and incidents with their beginning and end."""

import uuid
from importlib import import_module

from django.db import migrations, models

initial = import_module("evermuse_outbox.migrations.0001_initial")


def compare_workspace_exactly(apps, schema_editor):
    """Compare the workspace of an incident as 0001 compares those of the other tables."""
    connection = schema_editor.connection
    if connection.vendor != "mysql":
        return
    meta = apps.get_model("evermuse_outbox", "OutboxIncident")._meta
    column, quote = meta.get_field("workspace"), schema_editor.quote_name
    kind = f"CHARACTER SET utf8mb4 COLLATE {initial.exact_collation(connection)} NOT NULL"
    schema_editor.execute(
        f"ALTER TABLE {quote(meta.db_table)} MODIFY {quote(column.column)} {column.db_type(connection)} {kind}"
    )


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0003_operations"),
    ]

    operations = [
        migrations.CreateModel(
            name="OutboxIncident",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("workspace", "workspace does not send"),
                            ("group", "group is paused"),
                            ("backlog", "records wait too long"),
                            ("no_worker", "no worker"),
                            ("slow_database", "slow statements"),
                            ("clock", "clock drift"),
                        ],
                        max_length=16,
                        verbose_name="kind",
                    ),
                ),
                (
                    "workspace",
                    models.CharField(blank=True, default="", max_length=64, verbose_name="workspace"),
                ),
                (
                    "subject",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="For instance the group.",
                        max_length=200,
                        verbose_name="subject",
                    ),
                ),
                ("started_at", models.DateTimeField(db_index=True, verbose_name="started at")),
                ("last_seen_at", models.DateTimeField(verbose_name="last seen at")),
                (
                    "ended_at",
                    models.DateTimeField(blank=True, db_index=True, null=True, verbose_name="ended at"),
                ),
                ("reason", models.TextField(blank=True, default="", verbose_name="reason")),
                (
                    "peak",
                    models.FloatField(
                        blank=True,
                        help_text="Seconds or a number, depending on the kind.",
                        null=True,
                        verbose_name="highest figure",
                    ),
                ),
                (
                    "open_key",
                    models.CharField(blank=True, editable=False, max_length=32, null=True, unique=True),
                ),
            ],
            options={"verbose_name": "incident", "verbose_name_plural": "incidents", "ordering": ["-pk"]},
        ),
        migrations.CreateModel(
            name="OutboxWorker",
            fields=[
                (
                    "id",
                    models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False),
                ),
                ("host", models.CharField(max_length=255, verbose_name="host")),
                ("pid", models.PositiveBigIntegerField(verbose_name="process id")),
                (
                    "version",
                    models.CharField(
                        help_text="Version of evermuse_outbox.", max_length=32, verbose_name="version"
                    ),
                ),
                (
                    "command",
                    models.CharField(
                        help_text="What runs the process, such as celery worker.",
                        max_length=64,
                        verbose_name="command",
                    ),
                ),
                (
                    "started_at",
                    models.DateTimeField(help_text="Time of the first heartbeat.", verbose_name="started at"),
                ),
                ("last_seen_at", models.DateTimeField(db_index=True, verbose_name="last seen at")),
                (
                    "activity",
                    models.CharField(
                        help_text="What it began last, when it was seen last.",
                        max_length=120,
                        verbose_name="activity",
                    ),
                ),
            ],
            options={"verbose_name": "worker", "verbose_name_plural": "workers"},
        ),
        migrations.CreateModel(
            name="OutboxOverview",
            fields=[],
            options={
                "verbose_name": "overview",
                "verbose_name_plural": " Overview",
                "proxy": True,
                "indexes": [],
                "constraints": [],
            },
            bases=("evermuse_outbox.outboxworkspace",),
        ),
        migrations.RunPython(compare_workspace_exactly, migrations.RunPython.noop, atomic=False),
    ]
