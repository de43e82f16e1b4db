"""The trace that was active when a record was enqueued."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0006_erasure"),
    ]

    operations = []
