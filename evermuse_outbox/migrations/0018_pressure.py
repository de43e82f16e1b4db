"""How long a new record will probably wait."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0017_data_keys"),
    ]

    operations = []
