"""Set storage parameters on PostgreSQL and add the index for the purge. The new initial migration explains them."""

from django.db import migrations
from django.db.models import Q

import evermuse_outbox.models.indexes

VACUUM = {"autovacuum_vacuum_scale_factor": 0.02, "autovacuum_vacuum_threshold": 10_000}
ANALYZE = {"autovacuum_analyze_scale_factor": 0.02, "autovacuum_analyze_threshold": 5_000}
STORAGE = {
    "OutboxRecord": VACUUM | ANALYZE | {"autovacuum_vacuum_cost_limit": 2_000},
    "OutboxBatch": VACUUM | ANALYZE,
    "OutboxAttempt": VACUUM | ANALYZE,
    "OutboxWorkspace": {"fillfactor": 10},
    "OutboxThrottle": {"fillfactor": 10},
}


def _alter(apps, schema_editor, action):
    if schema_editor.connection.vendor != "postgresql":
        return
    for name, parameters in STORAGE.items():
        table = schema_editor.quote_name(apps.get_model("evermuse_outbox", name)._meta.db_table)
        schema_editor.execute(f"ALTER TABLE {table} {action(parameters)}")


def set_storage(apps, schema_editor):
    def assign(parameters):
        return ", ".join(f"{name} = {value}" for name, value in parameters.items())

    _alter(apps, schema_editor, lambda parameters: f"SET ({assign(parameters)})")


def reset_storage(apps, schema_editor):
    _alter(apps, schema_editor, lambda parameters: f"RESET ({', '.join(parameters)})")


class Migration(migrations.Migration):
    dependencies = [("evermuse_outbox", "0005_following")]
    operations = [
        migrations.RunPython(set_storage, reset_storage),
        migrations.AddIndex(
            model_name="outboxbatch",
            index=evermuse_outbox.models.indexes.PartialIndex(
                fields=["finished_at", "id"],
                instead=("next_poll_at", "finished_at", "id"),
                name="evermuse_batch_over",
                where=Q(("finished_at__isnull", False), ("next_poll_at__isnull", True)),
            ),
        ),
    ]
