"""The key that a batch is sent with, and which keys of a workspace are blocked."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0015_rules"),
    ]

    operations = [
        migrations.AddField(
            model_name="outboxbatch",
            name="api_key",
            field=models.CharField(
                help_text="Fingerprint of the key that sends it.",
                max_length=24,
                null=True,
                verbose_name="API key",
            ),
        ),
        migrations.AddField(
            model_name="outboxattempt",
            name="api_key",
            field=models.CharField(
                help_text="Fingerprint of the key that it was made with.",
                max_length=24,
                null=True,
                verbose_name="API key",
            ),
        ),
        migrations.AddField(
            model_name="outboxworkspace",
            name="key_pool",
            field=models.JSONField(
                blank=True,
                help_text="Only with several API keys: which of them are blocked, by fingerprint.",
                null=True,
                verbose_name="API keys",
            ),
        ),
    ]
