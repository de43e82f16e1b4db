"""The key that a batch was sent with."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0015_rules"),
    ]

    operations = []
