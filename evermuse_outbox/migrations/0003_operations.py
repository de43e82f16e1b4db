"""Operations: manual changes of many records as background jobs, and what a person holds."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0002_waiting_states"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="outboxrecord",
            options={
                "permissions": [
                    ("view_payload_outboxrecord", "Can view the payloads of records"),
                    ("retry_outboxrecord", "Can retry rejected records, and edit them before"),
                    ("discard_outboxrecord", "Can discard records"),
                    ("erase_outboxrecord", "Can erase records"),
                ],
                "verbose_name": "record",
                "verbose_name_plural": "records",
            },
        ),
        migrations.AlterModelOptions(
            name="outboxworkspace",
            options={
                "permissions": [("pause_outboxworkspace", "Can pause and resume workspaces and groups")],
                "verbose_name": "workspace",
                "verbose_name_plural": "workspaces",
            },
        ),
    ]
