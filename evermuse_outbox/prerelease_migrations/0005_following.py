"""Add the columns for polling by the listing."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0004_agenda"),
    ]

    operations = [
        migrations.AddField(
            model_name="outboxbatch",
            name="listing_cursor",
            field=models.CharField(
                blank=True,
                default="",
                help_text="The cursor of its page; empty for the newest page, none where it was not shown.",
                max_length=256,
                null=True,
                verbose_name="place in the listing",
            ),
        ),
        migrations.AddField(
            model_name="outboxworkspace",
            name="next_read_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="next read at"),
        ),
        migrations.AddField(
            model_name="outboxworkspace",
            name="usual_seconds",
            field=models.FloatField(
                default=0,
                help_text="Seconds that Evermuse takes for a batch, as was seen last.",
                verbose_name="usual time",
            ),
        ),
    ]
