"""Records that are sent later, or not after a time.

Made by ``makemigrations``, except for the last operation.
"""

from django.db import migrations, models

from ._exact_names import compare_exactly
from ._resumable import ResumableMigration


class Migration(ResumableMigration):
    dependencies = [
        ("evermuse_outbox", "0013_labels_and_runs"),
    ]

    operations = [
        migrations.CreateModel(
            name="OutboxDeferral",
            fields=[
                (
                    "record_id",
                    models.BigIntegerField(primary_key=True, serialize=False, verbose_name="record"),
                ),
                ("workspace", models.CharField(max_length=64, verbose_name="workspace")),
                ("due_at", models.DateTimeField(blank=True, null=True, verbose_name="due at")),
                (
                    "send_after",
                    models.DateTimeField(
                        blank=True,
                        help_text="The record is not sent before.",
                        null=True,
                        verbose_name="send after",
                    ),
                ),
                (
                    "expires_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="The record is not sealed after this time.",
                        null=True,
                        verbose_name="expires at",
                    ),
                ),
                (
                    "latest_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="Of a debounced record: the time when its identity is sent, even if newer versions come.",
                        null=True,
                        verbose_name="latest at",
                    ),
                ),
                (
                    "rule_id",
                    models.BigIntegerField(
                        blank=True,
                        help_text="The rule that holds the record.",
                        null=True,
                        verbose_name="standing rule",
                    ),
                ),
            ],
            options={"verbose_name": "deferral", "verbose_name_plural": "deferrals"},
        ),
        migrations.AddIndex(
            model_name="outboxdeferral",
            index=models.Index(fields=["due_at", "workspace"], name="evermuse_deferral_due"),
        ),
        migrations.AddIndex(
            model_name="outboxdeferral",
            index=models.Index(fields=["workspace", "due_at"], name="evermuse_deferral_workspace"),
        ),
        migrations.AddIndex(
            model_name="outboxdeferral",
            index=models.Index(fields=["rule_id", "record_id"], name="evermuse_deferral_rule"),
        ),
        migrations.AddConstraint(
            model_name="outboxdeferral",
            constraint=models.CheckConstraint(
                condition=models.Q(("due_at__isnull", False), ("rule_id__isnull", False), _connector="OR"),
                name="evermuse_deferral_due_at",
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
                    ("reschedule", "change when records are sent"),
                ],
                max_length=16,
                verbose_name="action",
            ),
        ),
        compare_exactly(OutboxDeferral=("workspace",)),
    ]
