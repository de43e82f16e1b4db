"""The keys that stored payloads are encrypted with."""

from django.db import migrations, models

from ._exact_names import compare_exactly
from ._resumable import ResumableMigration


class Migration(ResumableMigration):
    dependencies = [
        ("evermuse_outbox", "0016_api_keys"),
    ]

    operations = [
        migrations.CreateModel(
            name="OutboxDataKey",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("workspace", models.CharField(max_length=64, verbose_name="workspace")),
                (
                    "label",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="Empty: all records of the workspace.",
                        max_length=256,
                        verbose_name="label",
                    ),
                ),
                (
                    "wrapped",
                    models.CharField(
                        blank=True,
                        editable=False,
                        help_text="Empty after its destruction.",
                        max_length=128,
                        verbose_name="wrapped key",
                    ),
                ),
                (
                    "master",
                    models.CharField(
                        blank=True,
                        help_text="Fingerprint of the key that wraps it.",
                        max_length=16,
                        verbose_name="master key",
                    ),
                ),
                ("created_at", models.DateTimeField(verbose_name="created at")),
                (
                    "retired_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="From then on, it encrypts no new payload.",
                        null=True,
                        verbose_name="retired at",
                    ),
                ),
                (
                    "destroyed_at",
                    models.DateTimeField(blank=True, null=True, verbose_name="destroyed at"),
                ),
            ],
            options={
                "verbose_name": "data key",
                "verbose_name_plural": "data keys",
                "permissions": [
                    ("manage_outboxdatakey", "Can encrypt payloads, and rotate and destroy data keys")
                ],
                "indexes": [
                    models.Index(fields=["workspace", "label", "id"], name="evermuse_data_key_scope")
                ],
            },
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
                    ("make_rule", "make a standing rule"),
                    ("end_rule", "end a standing rule"),
                    ("reschedule", "change when records are sent"),
                    ("encrypt", "encrypt or decrypt payloads"),
                    ("rotate_keys", "rotate keys"),
                    ("destroy_key", "destroy data keys"),
                ],
                max_length=16,
                verbose_name="action",
            ),
        ),
        compare_exactly(OutboxDataKey=("workspace", "label")),
    ]
