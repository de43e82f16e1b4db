"""The trace that was active when a record was enqueued."""

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
    ]
