"""Give fields and states their standard names. No other value changes."""

from django.db import migrations, models

RENAMED = {
    "OutboxWorkspace": {
        "held_until": "blocked_until",
        "turns": "seal_count",
        "agenda": "run_queue",
        "flows": "arrival_rates",
        "usual_seconds": "typical_completion_seconds",
    },
    "OutboxGroup": {"held_until": "blocked_until", "complaint": "error_signature"},
    "OutboxBatch": {"search": "isolation"},
    "OutboxThrottle": {
        "free_at": "next_slot_at",
        "hold_until": "blocked_until",
        "quickest": "min_latency",
        "candidate": "min_latency_candidate",
        "visits": "permits",
        "touched": "lock_count",
        "sends": "latency_samples",
    },
}
STATES = (("OutboxBatch", "dividing", "isolating"), ("OutboxWorkspace", "open", "active"))


def _rename_states(apps, schema_editor, *, forwards):
    for name, old, new in STATES:
        rows = apps.get_model("evermuse_outbox", name).objects.using(schema_editor.connection.alias)
        before, after = (old, new) if forwards else (new, old)
        rows.filter(state=before).update(state=after)


def rename_states(apps, schema_editor):
    _rename_states(apps, schema_editor, forwards=True)


def rename_states_back(apps, schema_editor):
    _rename_states(apps, schema_editor, forwards=False)


class Migration(migrations.Migration):
    dependencies = [("evermuse_outbox", "0008_identity_by_minute")]
    operations = [
        migrations.RemoveConstraint("OutboxGroup", "evermuse_group_paused_until"),
        migrations.RemoveConstraint("OutboxBatch", "evermuse_batch_known_state"),
        *[
            migrations.RenameField(model, old, new)
            for model, fields in RENAMED.items()
            for old, new in fields.items()
        ],
        migrations.RunPython(rename_states, rename_states_back),
        migrations.AlterField(
            model_name="outboxbatch",
            name="isolation",
            field=models.JSONField(
                blank=True,
                help_text="What is known of its bad records while it is divided.",
                null=True,
                verbose_name="isolation",
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
                    ("isolating", "isolating"),
                    ("failed", "failed"),
                    ("withdrawn", "withdrawn"),
                ],
                default="sealed",
                max_length=9,
                verbose_name="state",
            ),
        ),
        migrations.AlterField(
            model_name="outboxgroup",
            name="error_signature",
            field=models.CharField(
                help_text="What was said, without numbers and names: alike in all.",
                max_length=200,
                verbose_name="error_signature",
            ),
        ),
        migrations.AlterField(
            model_name="outboxworkspace",
            name="arrival_rates",
            field=models.JSONField(
                blank=True,
                default=list,
                help_text="Records a second, of the groups with the most.",
                verbose_name="arrival rates",
            ),
        ),
        migrations.AlterField(
            model_name="outboxworkspace",
            name="run_queue",
            field=models.JSONField(
                blank=True,
                default=dict,
                help_text="The groups to be sealed next, and why.",
                verbose_name="run queue",
            ),
        ),
        migrations.AlterField(
            model_name="outboxworkspace",
            name="seal_count",
            field=models.PositiveBigIntegerField(
                default=0, help_text="Times that a batch was looked for.", verbose_name="sealing attempts"
            ),
        ),
        migrations.AlterField(
            model_name="outboxworkspace",
            name="state",
            field=models.CharField(
                choices=[
                    ("active", "active"),
                    ("paused", "paused"),
                    ("backing_off", "backing off"),
                    ("throttled", "throttled"),
                ],
                default="active",
                max_length=12,
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
                            "isolating",
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
                    ("blocked_until__isnull", False),
                    _connector="OR",
                ),
                name="evermuse_group_paused_until",
            ),
        ),
    ]
