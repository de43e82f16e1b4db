"""When the URLs of a batch's attachments were renewed.

The column allows NULL and has no default, so no database rewrites the table.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0009_stored_values"),
    ]

    operations = [
        migrations.AddField(
            model_name="outboxbatch",
            name="urls_renewed_at",
            field=models.DateTimeField(
                blank=True,
                help_text="When the function of the setting RENEW_URL gave new URLs to its attachments.",
                null=True,
                verbose_name="URLs renewed at",
            ),
        ),
    ]
