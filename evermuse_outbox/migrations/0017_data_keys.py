"""The keys that stored payloads are encrypted with."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0016_api_keys"),
    ]

    operations = []
