"""Add groups in trouble and the isolation of bad records."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0002_postgres_storage"),
    ]

    operations = [
        migrations.CreateModel(
            name="OutboxGroup",
            fields=[
                (
                    "scope",
                    models.CharField(max_length=32, primary_key=True, serialize=False, verbose_name="scope"),
                ),
                ("workspace", models.CharField(max_length=64, verbose_name="workspace")),
                ("type", models.CharField(max_length=32, verbose_name="type")),
                ("product_id", models.CharField(max_length=128, verbose_name="product id")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("suspected", "suspected"),
                            ("paused", "paused"),
                            ("cleared", "out of trouble"),
                        ],
                        default="suspected",
                        max_length=9,
                        verbose_name="state",
                    ),
                ),
                (
                    "since",
                    models.DateTimeField(
                        help_text="The first refusal of this row of refusals, or its end.",
                        verbose_name="since",
                    ),
                ),
                (
                    "complaint",
                    models.CharField(
                        help_text="What was said, without numbers and names: alike in all.",
                        max_length=200,
                        verbose_name="complaint",
                    ),
                ),
                (
                    "contract",
                    models.CharField(
                        help_text="The contract it was sent under.", max_length=16, verbose_name="contract"
                    ),
                ),
                (
                    "batches",
                    models.PositiveIntegerField(
                        default=0, help_text="Refused in full, one after the other.", verbose_name="batches"
                    ),
                ),
                (
                    "records",
                    models.PositiveIntegerField(
                        default=0,
                        help_text="Refused for certain: alone, or all of a batch by name.",
                        verbose_name="records",
                    ),
                ),
                ("probes", models.PositiveIntegerField(default=0, verbose_name="probes")),
                ("held_until", models.DateTimeField(blank=True, null=True, verbose_name="next probe")),
                ("reason", models.TextField(blank=True, default="", verbose_name="reason")),
                ("advice", models.TextField(blank=True, default="", verbose_name="advice")),
            ],
            options={
                "verbose_name": "group in trouble",
                "verbose_name_plural": "groups in trouble",
            },
        ),
        migrations.RemoveConstraint(
            model_name="outboxbatch",
            name="evermuse_batch_known_state",
        ),
        migrations.AddField(
            model_name="outboxbatch",
            name="search",
            field=models.JSONField(
                blank=True,
                help_text="What is known of its bad records while it is divided.",
                null=True,
                verbose_name="search",
            ),
        ),
        migrations.AlterField(
            model_name="outboxbatch",
            name="state",
            field=models.CharField(
                choices=[
                    ("sealed", "sealed"),
                    ("sending", "sending"),
                    ("in_doubt", "in doubt"),
                    ("accepted", "accepted"),
                    ("complete", "complete"),
                    ("refused", "refused"),
                    ("split", "split"),
                    ("dividing", "dividing"),
                    ("failed", "failed"),
                    ("withdrawn", "withdrawn"),
                ],
                default="sealed",
                max_length=9,
                verbose_name="state",
            ),
        ),
        migrations.AddConstraint(
            model_name="outboxbatch",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "state__in",
                        [
                            "sealed",
                            "sending",
                            "in_doubt",
                            "accepted",
                            "complete",
                            "refused",
                            "split",
                            "dividing",
                            "failed",
                            "withdrawn",
                        ],
                    )
                ),
                name="evermuse_batch_known_state",
            ),
        ),
        migrations.AddConstraint(
            model_name="outboxgroup",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("state", "paused"), _negated=True),
                    ("held_until__isnull", False),
                    _connector="OR",
                ),
                name="evermuse_group_paused_until",
            ),
        ),
    ]
