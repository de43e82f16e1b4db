"""A row for each message that waits in Celery's queue."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0007_trace_context"),
    ]

    operations = [
        migrations.CreateModel(
            name="OutboxMessage",
            fields=[
                (
                    "name",
                    models.CharField(max_length=32, primary_key=True, serialize=False, verbose_name="name"),
                ),
                (
                    "task",
                    models.CharField(
                        help_text="Name of the task and of its workspace.",
                        max_length=160,
                        verbose_name="task",
                    ),
                ),
                ("waiting_since", models.FloatField(null=True, verbose_name="waiting since")),
                ("checked_at", models.FloatField(default=0, verbose_name="checked at")),
                ("copies", models.PositiveIntegerField(default=0, verbose_name="times published")),
            ],
            options={
                "verbose_name": "message",
                "verbose_name_plural": "messages",
            },
        ),
    ]
