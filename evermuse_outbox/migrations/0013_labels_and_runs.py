"""Labels of records, and runs.

The column of the records allows NULL and has no default, so no database rewrites the table. Made by ``makemigrations``,
except for the last operation.
"""

from django.db import migrations, models

import evermuse_outbox.models.indexes
from evermuse_outbox.models.indexes import AddIndexOnline

from ._exact_names import compare_exactly
from ._resumable import ResumableMigration


class Migration(ResumableMigration):
    dependencies = [
        ("evermuse_outbox", "0012_record_states"),
    ]

    operations = [
        migrations.AddField(
            model_name="outboxrecord",
            name="label_set_id",
            field=models.BigIntegerField(blank=True, editable=False, null=True, verbose_name="label set"),
        ),
        migrations.CreateModel(
            name="OutboxRun",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("workspace", models.CharField(max_length=64, verbose_name="workspace")),
                ("name", models.CharField(max_length=200, verbose_name="name")),
                (
                    "open_key",
                    models.CharField(
                        blank=True,
                        editable=False,
                        max_length=64,
                        null=True,
                        unique=True,
                        verbose_name="open key",
                    ),
                ),
                (
                    "labels",
                    models.JSONField(
                        default=dict, help_text="Labels of all records of the run.", verbose_name="labels"
                    ),
                ),
                (
                    "expected",
                    models.PositiveBigIntegerField(
                        blank=True,
                        help_text="How many records the run will have.",
                        null=True,
                        verbose_name="expected records",
                    ),
                ),
                ("started_at", models.DateTimeField(verbose_name="started at")),
                (
                    "closed_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="Since then, no more records join the run.",
                        null=True,
                        verbose_name="closed at",
                    ),
                ),
                (
                    "finished_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="The run is closed, and no record of it waits or is in flight.",
                        null=True,
                        verbose_name="finished at",
                    ),
                ),
                (
                    "counts",
                    models.JSONField(
                        default=dict, help_text="As last counted.", verbose_name="records by state"
                    ),
                ),
                (
                    "history",
                    models.JSONField(
                        default=list,
                        help_text="Time, ended records and all records of earlier counts.",
                        verbose_name="history",
                    ),
                ),
                (
                    "purged",
                    models.JSONField(
                        default=dict,
                        help_text="Records that were purged after their end.",
                        verbose_name="purged records by state",
                    ),
                ),
                ("counted_at", models.DateTimeField(blank=True, null=True, verbose_name="counted at")),
                (
                    "count_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="When workers count the records again.",
                        null=True,
                        verbose_name="next count",
                    ),
                ),
                (
                    "needs_person_since",
                    models.DateTimeField(
                        blank=True,
                        help_text="Records of the run are rejected.",
                        null=True,
                        verbose_name="needs a person since",
                    ),
                ),
            ],
            options={
                "verbose_name": "run",
                "verbose_name_plural": "runs",
                "indexes": [
                    models.Index(fields=["count_at"], name="evermuse_run_count_at"),
                    models.Index(fields=["name"], name="evermuse_run_name"),
                ],
            },
        ),
        migrations.CreateModel(
            name="OutboxLabelSet",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "digest",
                    models.UUIDField(
                        editable=False, help_text="Hash of the run and the labels.", verbose_name="digest"
                    ),
                ),
                (
                    "retired_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="New records do not name a retired set.",
                        null=True,
                        verbose_name="retired at",
                    ),
                ),
                (
                    "run",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        null=True,
                        on_delete=models.DO_NOTHING,
                        related_name="label_sets",
                        to="evermuse_outbox.outboxrun",
                        verbose_name="run",
                    ),
                ),
            ],
            options={
                "verbose_name": "label set",
                "verbose_name_plural": "label sets",
            },
        ),
        migrations.CreateModel(
            name="OutboxLabel",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=64, verbose_name="name")),
                ("value", models.CharField(max_length=256, verbose_name="value")),
                (
                    "label_set",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=models.DO_NOTHING,
                        related_name="labels",
                        to="evermuse_outbox.outboxlabelset",
                        verbose_name="label set",
                    ),
                ),
            ],
            options={
                "verbose_name": "label",
                "verbose_name_plural": "labels",
                "indexes": [models.Index(fields=["name", "value"], name="evermuse_label_value")],
            },
        ),
        migrations.AddIndex(
            model_name="outboxlabelset",
            index=models.Index(fields=["digest"], name="evermuse_label_set_digest"),
        ),
        AddIndexOnline(
            model_name="outboxrecord",
            index=evermuse_outbox.models.indexes.PartialIndex(
                fields=["label_set_id", "id"],
                instead=(),
                name="evermuse_record_labels",
                where=models.Q(("label_set_id__isnull", False)),
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
                    ("erase", "erase records"),
                    ("import", "import records from a file"),
                    ("close_run", "close a run"),
                ],
                max_length=16,
                verbose_name="action",
            ),
        ),
        compare_exactly(OutboxLabel=("name", "value"), OutboxRun=("workspace", "name")),
    ]
