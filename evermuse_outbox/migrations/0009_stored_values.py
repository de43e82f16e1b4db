"""What protects a stored value."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0008_messages"),
    ]

    operations: list[migrations.operations.base.Operation] = []
