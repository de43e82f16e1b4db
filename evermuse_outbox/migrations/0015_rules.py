"""Standing rules, which hold back or discard matching records."""

import django.db.models.deletion
from django.db import migrations, models

from ._exact_names import compare_exactly
from ._resumable import ResumableMigration


class Migration(ResumableMigration):
    dependencies = [
        ("evermuse_outbox", "0014_deferrals"),
    ]

    operations = [
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
                ],
                max_length=16,
                verbose_name="action",
            ),
        ),
        migrations.CreateModel(
            name="OutboxRule",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "workspace",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="Empty for every workspace.",
                        max_length=64,
                        verbose_name="workspace",
                    ),
                ),
                ("type", models.CharField(blank=True, default="", max_length=32, verbose_name="type")),
                (
                    "product_id",
                    models.CharField(blank=True, default="", max_length=128, verbose_name="product id"),
                ),
                ("label_name", models.CharField(blank=True, default="", max_length=64, verbose_name="label")),
                (
                    "label_value",
                    models.CharField(
                        blank=True, default="", max_length=256, verbose_name="value of the label"
                    ),
                ),
                (
                    "vendor_id",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="Pattern of an entry of _vendor_ids: VALUE or NAME=VALUE, each with * and ?.",
                        max_length=400,
                        verbose_name="vendor id",
                    ),
                ),
                (
                    "action",
                    models.CharField(
                        choices=[("hold", "hold back"), ("discard", "discard")],
                        max_length=8,
                        verbose_name="action",
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[("active", "active"), ("ending", "ending"), ("ended", "ended")],
                        db_index=True,
                        default="active",
                        max_length=8,
                        verbose_name="state",
                    ),
                ),
                (
                    "until",
                    models.DateTimeField(
                        blank=True,
                        help_text="Empty: until a person ends the rule.",
                        null=True,
                        verbose_name="until",
                    ),
                ),
                ("reason", models.TextField(verbose_name="reason")),
                ("by", models.CharField(max_length=150, verbose_name="by")),
                ("created_at", models.DateTimeField(verbose_name="since")),
                (
                    "applied_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="Since then, no batch that was sealed before the rule waits with a matching record.",
                        null=True,
                        verbose_name="applied at",
                    ),
                ),
                ("ended_at", models.DateTimeField(blank=True, null=True, verbose_name="ended at")),
                (
                    "ended_by",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="Empty if its time was over.",
                        max_length=150,
                        verbose_name="ended by",
                    ),
                ),
                ("end_reason", models.TextField(blank=True, default="", verbose_name="reason of the end")),
                ("held", models.PositiveBigIntegerField(default=0, verbose_name="held")),
                ("discarded", models.PositiveBigIntegerField(default=0, verbose_name="discarded")),
            ],
            options={
                "verbose_name": "standing rule",
                "verbose_name_plural": "standing rules",
                "permissions": [("manage_outboxrule", "Can make and end standing rules")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("ended_at__isnull", True), ("state", "active")),
                            models.Q(
                                models.Q(("state", "active"), _negated=True), ("ended_at__isnull", False)
                            ),
                            _connector="OR",
                        ),
                        name="evermuse_rule_ended_at",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("label_name", ""), ("label_value", "")),
                            models.Q(("label_name", ""), _negated=True),
                            _connector="OR",
                        ),
                        name="evermuse_rule_label",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="OutboxRuleMatch",
            fields=[
                (
                    "record_id",
                    models.BigIntegerField(primary_key=True, serialize=False, verbose_name="record"),
                ),
                (
                    "rule",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="matches",
                        to="evermuse_outbox.outboxrule",
                        verbose_name="rule",
                    ),
                ),
            ],
            options={
                "verbose_name": "record of a rule",
                "verbose_name_plural": "records of rules",
                "indexes": [models.Index(fields=["rule", "record_id"], name="evermuse_rule_match_rule")],
            },
        ),
        compare_exactly(
            OutboxRule=("workspace", "type", "product_id", "label_name", "label_value", "vendor_id")
        ),
    ]
