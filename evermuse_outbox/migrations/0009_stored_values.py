"""The checksum of what was enqueued: a line that the database has altered is not sent.

The column allows NULL and has no default, so no database rewrites the table. Rows without a checksum are sent as before.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0008_messages"),
    ]

    operations = [
        migrations.AddField(
            model_name="outboxrecord",
            name="checksum",
            field=models.BigIntegerField(
                blank=True,
                editable=False,
                help_text="CRC-32 of what was enqueued. Rows of earlier versions have none.",
                null=True,
                verbose_name="checksum",
            ),
        ),
    ]
