"""What a table wants that is written, rewritten and emptied by the million: an index for the purge, and on PostgreSQL
an autovacuum that keeps up.

PostgreSQL's own settings wait until a fifth of a table is dead. A record is dead twice, once when a batch takes it
and once when it is purged, so that at the ceiling of 10,000 records a second 20,000 rows die each second, and of a
table of 100 million rows 20 million would lie about.

* ``autovacuum_vacuum_scale_factor = 0.02``, ``_threshold = 10000``: the space of dead rows, and of their entries in
  five indexes, is used again when they are a fiftieth. Not less: each vacuum reads every index from end to end.
* ``autovacuum_vacuum_cost_limit = 2000`` on the records: with the 200 of the server a vacuum dirties at most 5,000
  pages a second (20 a page, a pause of 2 ms each 200), and the records alone die on as many.
* ``autovacuum_analyze_scale_factor = 0.02``, ``_threshold = 5000``: the planner takes a table whose rows it has never
  seen for one in which each identity and each batch has a two-hundredth of all rows.
* ``autovacuum_vacuum_insert_scale_factor`` stays as it is: a backlog that only grows is vacuumed for its visibility
  map at a fifth, and a batch that takes its rows soon clears what an earlier vacuum would have set.
* ``toast.*`` is not set: the TOAST table of long payloads goes by the values of its table.
* ``fillfactor = 10`` on the two tables of a row a key: the row is rewritten dozens of times a second without touching
  an index, and finds room for that on its own page, where the next one who reads clears up.

``OutboxBatch`` gets no room on its pages: its updates change what is indexed, so that none of them could stay on the
page without new index entries. ``evermuse_batch_over`` gives the purge the oldest batches that are over, without
looking at the others.
"""

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
    told = lambda parameters: ", ".join(f"{name} = {value}" for name, value in parameters.items())  # noqa: E731
    _alter(apps, schema_editor, lambda parameters: f"SET ({told(parameters)})")


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
