"""The latencies of recent sends, from which the rate limit learns.

The column allows NULL and has no default, so no database rewrites the table.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0010_urls_renewed"),
    ]

    operations = [
        migrations.AddField(
            model_name="outboxthrottle",
            name="latencies",
            field=models.JSONField(null=True, verbose_name="latencies of recent sends"),
        ),
    ]
