"""Workspaces in which a new record would wait for long.

Made by ``makemigrations``, except for the last operation.
"""

from django.db import migrations, models

from ._exact_names import compare_exactly
from ._resumable import ResumableMigration


class Migration(ResumableMigration):
    dependencies = [
        ("evermuse_outbox", "0017_data_keys"),
    ]

    operations = [
        migrations.CreateModel(
            name="OutboxPressure",
            fields=[
                (
                    "scope",
                    models.CharField(
                        editable=False,
                        max_length=64,
                        primary_key=True,
                        serialize=False,
                        verbose_name="scope",
                    ),
                ),
                ("workspace", models.CharField(max_length=64, verbose_name="workspace")),
                ("since", models.DateTimeField(verbose_name="since")),
            ],
            options={"verbose_name": "pressure", "verbose_name_plural": "pressures"},
        ),
        compare_exactly(OutboxPressure=("workspace",)),
    ]
