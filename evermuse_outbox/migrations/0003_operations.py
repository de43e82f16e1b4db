"""Operations: manual changes of many records as background jobs, and what a person holds.

Made by ``makemigrations``, except for the last operation: RunPython.
"""

from importlib import import_module

import django.db.models.deletion
from django.db import migrations, models

import evermuse_outbox.models.indexes

initial = import_module("evermuse_outbox.migrations.0001_initial")


def compare_workspace_exactly(apps, schema_editor):
    """Compare the workspace of a job as 0001 compares those of the other tables."""
    connection = schema_editor.connection
    if connection.vendor != "mysql":
        return
    meta = apps.get_model("evermuse_outbox", "OutboxOperation")._meta
    column, quote = meta.get_field("workspace"), schema_editor.quote_name
    kind = f"CHARACTER SET utf8mb4 COLLATE {initial.exact_collation(connection)} NOT NULL"
    schema_editor.execute(
        f"ALTER TABLE {quote(meta.db_table)} MODIFY {quote(column.column)} {column.db_type(connection)} {kind}"
    )


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0002_waiting_states"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="outboxrecord",
            options={
                "permissions": [
                    ("view_payload_outboxrecord", "Can view the payloads of records"),
                    ("retry_outboxrecord", "Can retry rejected records, and edit them before"),
                    ("discard_outboxrecord", "Can discard records"),
                    ("erase_outboxrecord", "Can erase records"),
                ],
                "verbose_name": "record",
                "verbose_name_plural": "records",
            },
        ),
        migrations.AlterModelOptions(
            name="outboxworkspace",
            options={
                "permissions": [("pause_outboxworkspace", "Can pause and resume workspaces and groups")],
                "verbose_name": "workspace",
                "verbose_name_plural": "workspaces",
            },
        ),
        migrations.AddField(
            model_name="outboxgroup",
            name="held_by",
            field=models.CharField(
                blank=True, db_default="", default="", max_length=150, verbose_name="held by"
            ),
        ),
        migrations.AddField(
            model_name="outboxworkspace",
            name="held_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="held at"),
        ),
        migrations.AddField(
            model_name="outboxworkspace",
            name="held_by",
            field=models.CharField(
                blank=True, db_default="", default="", max_length=150, verbose_name="held by"
            ),
        ),
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
                ],
                max_length=16,
                verbose_name="action",
            ),
        ),
        migrations.AlterField(
            model_name="outboxgroup",
            name="since",
            field=models.DateTimeField(
                help_text="Time of the first refusal in a row; if cleared, the end of the pause; if held, the begin of the hold.",
                verbose_name="since",
            ),
        ),
        migrations.AlterField(
            model_name="outboxgroup",
            name="state",
            field=models.CharField(
                choices=[
                    ("suspected", "suspected"),
                    ("paused", "paused"),
                    ("cleared", "out of trouble"),
                    ("held", "held"),
                ],
                default="suspected",
                max_length=9,
                verbose_name="state",
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
                    ("held", "held"),
                ],
                default="active",
                max_length=12,
                verbose_name="state",
            ),
        ),
        migrations.CreateModel(
            name="OutboxOperation",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("kind", models.CharField(max_length=16, verbose_name="kind")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("collecting", "collecting"),
                            ("ready", "ready"),
                            ("running", "running"),
                            ("paused", "paused"),
                            ("finished", "finished"),
                            ("cancelled", "cancelled"),
                            ("failed", "failed"),
                        ],
                        default="collecting",
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                ("by", models.CharField(max_length=150, verbose_name="by")),
                ("reason", models.TextField(blank=True, default="", verbose_name="reason")),
                (
                    "selection",
                    models.TextField(
                        blank=True,
                        default="",
                        help_text="What was selected, in words.",
                        verbose_name="selection",
                    ),
                ),
                ("options", models.JSONField(blank=True, default=dict, verbose_name="options")),
                (
                    "workspace",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="Empty if there are several.",
                        max_length=64,
                        verbose_name="workspace",
                    ),
                ),
                ("created_at", models.DateTimeField(verbose_name="created at")),
                ("confirmed_at", models.DateTimeField(blank=True, null=True, verbose_name="confirmed at")),
                ("started_at", models.DateTimeField(blank=True, null=True, verbose_name="started at")),
                ("finished_at", models.DateTimeField(blank=True, null=True, verbose_name="finished at")),
                (
                    "busy_seconds",
                    models.FloatField(
                        default=0,
                        help_text="Duration of all chunks. The remaining time follows from it.",
                        verbose_name="busy seconds",
                    ),
                ),
                (
                    "max_id",
                    models.BigIntegerField(
                        default=0,
                        help_text="Rows with a higher id came later and are no members.",
                        verbose_name="highest id",
                    ),
                ),
                ("collected_to", models.BigIntegerField(default=0, verbose_name="collected up to id")),
                (
                    "done_to",
                    models.BigIntegerField(
                        default=0,
                        help_text="Members are changed in the order of their ids.",
                        verbose_name="done up to id",
                    ),
                ),
                ("total", models.PositiveBigIntegerField(default=0, verbose_name="members")),
                ("bytes", models.PositiveBigIntegerField(default=0, verbose_name="bytes")),
                (
                    "groups",
                    models.JSONField(
                        blank=True,
                        default=list,
                        help_text="Records and bytes of each group, to estimate requests.",
                        verbose_name="groups",
                    ),
                ),
                (
                    "expected",
                    models.JSONField(
                        blank=True,
                        default=dict,
                        help_text="Reason → number and examples.",
                        verbose_name="expected refusals",
                    ),
                ),
                ("changed", models.PositiveBigIntegerField(default=0, verbose_name="changed")),
                ("refused", models.PositiveBigIntegerField(default=0, verbose_name="refused")),
                (
                    "failed",
                    models.PositiveBigIntegerField(
                        default=0,
                        help_text="Members whose change raised an error; they stay as they are.",
                        verbose_name="failed",
                    ),
                ),
                (
                    "has_members",
                    models.BooleanField(
                        default=True,
                        help_text="Whether its members are still stored.",
                        verbose_name="has members",
                    ),
                ),
                ("message", models.TextField(blank=True, default="", verbose_name="message")),
                ("action_id", models.BigIntegerField(blank=True, null=True, verbose_name="manual action")),
            ],
            options={
                "verbose_name": "job",
                "verbose_name_plural": "jobs",
                "ordering": ["-pk"],
                "indexes": [models.Index(fields=["state", "id"], name="evermuse_operation_state")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "state__in",
                                [
                                    "collecting",
                                    "ready",
                                    "running",
                                    "paused",
                                    "finished",
                                    "cancelled",
                                    "failed",
                                ],
                            )
                        ),
                        name="evermuse_operation_known_state",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="OutboxOperationMember",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "target",
                    models.BigIntegerField(help_text="Id of a record, or of a batch.", verbose_name="id"),
                ),
                (
                    "result",
                    models.CharField(
                        blank=True,
                        choices=[("refused", "refused"), ("failed", "failed")],
                        max_length=7,
                        null=True,
                        verbose_name="result",
                    ),
                ),
                ("note", models.TextField(blank=True, default="", verbose_name="reason")),
                (
                    "operation",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="members",
                        to="evermuse_outbox.outboxoperation",
                        verbose_name="job",
                    ),
                ),
            ],
            options={
                "verbose_name": "member of a job",
                "verbose_name_plural": "members of jobs",
                "indexes": [
                    evermuse_outbox.models.indexes.PartialIndex(
                        fields=["operation", "result", "target"],
                        instead=("operation", "result", "target"),
                        name="evermuse_member_result",
                        where=models.Q(("result__isnull", False)),
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("operation", "target"), name="evermuse_member_once")
                ],
            },
        ),
        migrations.RunPython(compare_workspace_exactly, migrations.RunPython.noop, atomic=False),
    ]
