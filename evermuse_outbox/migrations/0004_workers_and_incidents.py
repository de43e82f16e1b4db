"""Heartbeats of workers, and incidents with their beginning and end."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0003_operations"),
    ]

    operations = []
