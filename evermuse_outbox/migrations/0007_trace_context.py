"""The trace that was active when a record was enqueued, and the time from which on an incident needs a person."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0006_erasure"),
    ]

    operations = [
        migrations.AddField(
            model_name="outboxrecord",
            name="trace_context",
            field=models.CharField(blank=True, max_length=55, null=True, verbose_name="trace"),
        ),
        migrations.AddField(
            model_name="outboxincident",
            name="exhausted_at",
            field=models.DateTimeField(
                blank=True,
                help_text="When it was certain to need a person.",
                null=True,
                verbose_name="exhausted at",
            ),
        ),
    ]
