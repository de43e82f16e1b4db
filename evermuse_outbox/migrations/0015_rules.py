"""Standing rules, which hold back or discard matching records."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0014_deferrals"),
    ]

    operations = []
