"""Labels of records, and runs."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0012_record_states"),
    ]

    operations = []
