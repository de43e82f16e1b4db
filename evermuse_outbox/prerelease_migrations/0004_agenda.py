"""Replace the last group of a workspace by its run queue and arrival rates."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0003_groups_and_search"),
    ]

    operations = [
        migrations.RemoveField(
            model_name="outboxworkspace",
            name="last_product_id",
        ),
        migrations.RemoveField(
            model_name="outboxworkspace",
            name="last_type",
        ),
        migrations.AddField(
            model_name="outboxworkspace",
            name="agenda",
            field=models.JSONField(
                blank=True,
                default=dict,
                help_text="The groups to be sealed next, and why.",
                verbose_name="agenda",
            ),
        ),
        migrations.AddField(
            model_name="outboxworkspace",
            name="flows",
            field=models.JSONField(
                blank=True,
                default=list,
                help_text="Records a second, of the groups with the most.",
                verbose_name="flows",
            ),
        ),
    ]
