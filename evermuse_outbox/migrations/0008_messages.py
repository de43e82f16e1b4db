"""A message that waits in Celery's queue."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0007_trace_context"),
    ]

    operations: list[migrations.operations.base.Operation] = []
