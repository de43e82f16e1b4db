"""Give fields plain names and help texts. The database does not change."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0009_plain_names"),
    ]

    operations = [
        migrations.AlterField(
            model_name="outboxattempt",
            name="detail",
            field=models.TextField(blank=True, default="", verbose_name="answer"),
        ),
        migrations.AlterField(
            model_name="outboxattempt",
            name="seconds",
            field=models.FloatField(
                help_text="From the first byte sent to the last byte received.",
                null=True,
                verbose_name="seconds",
            ),
        ),
        migrations.AlterField(
            model_name="outboxbatch",
            name="in_doubt",
            field=models.BooleanField(
                default=False,
                help_text="An attempt ended without a clear answer: Evermuse may have the batch.",
                verbose_name="in doubt",
            ),
        ),
        migrations.AlterField(
            model_name="outboxbatch",
            name="isolation",
            field=models.JSONField(
                blank=True,
                help_text="What is known of its bad records during isolation.",
                null=True,
                verbose_name="isolation",
            ),
        ),
        migrations.AlterField(
            model_name="outboxbatch",
            name="lease_token",
            field=models.UUIDField(blank=True, null=True, verbose_name="lease token"),
        ),
        migrations.AlterField(
            model_name="outboxbatch",
            name="listing_cursor",
            field=models.CharField(
                blank=True,
                default="",
                help_text="Cursor of its listing page; empty for the newest page, null if it is on no page.",
                max_length=256,
                null=True,
                verbose_name="listing cursor",
            ),
        ),
        migrations.AlterField(
            model_name="outboxbatch",
            name="parent",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="parts",
                to="evermuse_outbox.outboxbatch",
                verbose_name="parent",
            ),
        ),
        migrations.AlterField(
            model_name="outboxbatch",
            name="resends",
            field=models.PositiveSmallIntegerField(
                default=0,
                help_text="Number of resends under a new key after Evermuse reported FAILED.",
                verbose_name="resends",
            ),
        ),
        migrations.AlterField(
            model_name="outboxbatch",
            name="sha256",
            field=models.CharField(
                help_text="Hash of the request body.", max_length=64, verbose_name="SHA-256"
            ),
        ),
        migrations.AlterField(
            model_name="outboxbatch",
            name="total_error_count",
            field=models.PositiveIntegerField(blank=True, null=True, verbose_name="total errors"),
        ),
        migrations.AlterField(
            model_name="outboxgroup",
            name="batches",
            field=models.PositiveIntegerField(
                default=0, help_text="Batches in a row that were refused in full.", verbose_name="batches"
            ),
        ),
        migrations.AlterField(
            model_name="outboxgroup",
            name="contract",
            field=models.CharField(
                help_text="The contract of the refused batches.", max_length=16, verbose_name="contract"
            ),
        ),
        migrations.AlterField(
            model_name="outboxgroup",
            name="error_signature",
            field=models.CharField(
                help_text="The error message without numbers and names; equal for all refusals.",
                max_length=200,
                verbose_name="error signature",
            ),
        ),
        migrations.AlterField(
            model_name="outboxgroup",
            name="records",
            field=models.PositiveIntegerField(
                default=0,
                help_text="Records known to be refused: sent alone, or all of a batch named.",
                verbose_name="records",
            ),
        ),
        migrations.AlterField(
            model_name="outboxgroup",
            name="since",
            field=models.DateTimeField(
                help_text="Time of the first refusal in a row; if cleared, the end of the pause.",
                verbose_name="since",
            ),
        ),
        migrations.AlterField(
            model_name="outboxrecord",
            name="contract",
            field=models.CharField(
                help_text="The contract that the line is written in.", max_length=16, verbose_name="contract"
            ),
        ),
        migrations.AlterField(
            model_name="outboxrecord",
            name="payload",
            field=models.TextField(
                help_text="The exact JSON line, without the newline.", verbose_name="payload"
            ),
        ),
        migrations.AlterField(
            model_name="outboxrecord",
            name="workspace",
            field=models.CharField(
                help_text="The workspace that sends the record.", max_length=64, verbose_name="workspace"
            ),
        ),
        migrations.AlterField(
            model_name="outboxrejection",
            name="position",
            field=models.PositiveSmallIntegerField(
                help_text="Position in the batch; the first is 0.", null=True, verbose_name="position"
            ),
        ),
        migrations.AlterField(
            model_name="outboxworkspace",
            name="arrival_rates",
            field=models.JSONField(
                blank=True,
                default=list,
                help_text="Records per second of the busiest groups.",
                verbose_name="arrival rates",
            ),
        ),
        migrations.AlterField(
            model_name="outboxworkspace",
            name="blocked_until",
            field=models.DateTimeField(blank=True, null=True, verbose_name="blocked until"),
        ),
        migrations.AlterField(
            model_name="outboxworkspace",
            name="run_queue",
            field=models.JSONField(
                blank=True,
                default=dict,
                help_text="The groups to seal next, and what is known of them.",
                verbose_name="run queue",
            ),
        ),
        migrations.AlterField(
            model_name="outboxworkspace",
            name="seal_count",
            field=models.PositiveBigIntegerField(
                default=0,
                help_text="Number of searches for records to seal.",
                verbose_name="sealing attempts",
            ),
        ),
        migrations.AlterField(
            model_name="outboxworkspace",
            name="typical_completion_seconds",
            field=models.FloatField(
                default=0,
                help_text="Seconds from acceptance to completion of a batch; 0 if unknown.",
                verbose_name="typical completion time",
            ),
        ),
        migrations.AlterField(
            model_name="outboxthrottle",
            name="blocked_until",
            field=models.FloatField(default=0, verbose_name="blocked until"),
        ),
        migrations.AlterField(
            model_name="outboxthrottle",
            name="min_latency",
            field=models.FloatField(null=True, verbose_name="minimum latency"),
        ),
        migrations.AlterField(
            model_name="outboxthrottle",
            name="min_latency_candidate",
            field=models.FloatField(null=True, verbose_name="minimum latency of this window"),
        ),
        migrations.AlterField(
            model_name="outboxthrottle",
            name="latency_samples",
            field=models.PositiveIntegerField(default=0, verbose_name="sends of this window"),
        ),
        migrations.AlterField(
            model_name="outboxthrottle",
            name="permits",
            field=models.JSONField(default=list, verbose_name="permits of the last second"),
        ),
        migrations.AlterField(
            model_name="outboxthrottle",
            name="lock_count",
            field=models.PositiveBigIntegerField(default=0, verbose_name="times locked"),
        ),
    ]
