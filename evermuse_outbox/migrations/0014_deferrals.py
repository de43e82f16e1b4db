"""Records that are sent later, or not after a time."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0013_labels_and_runs"),
    ]

    operations = []
