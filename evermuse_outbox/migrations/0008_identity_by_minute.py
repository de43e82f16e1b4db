"""Identities begin with the minute of the record's moment, so that what happened together stands together in their index.

Until now they were hashes alone. Each new one then fell on some page of the whole index: with ten million rows sealing a
batch cost nearly twice as much as with ten thousand, and after each checkpoint nearly every page was written whole.

Versions are found by their identity: whatever enqueues has to have this version before the workers go on.
"""

import json

from django.db import migrations

CHUNK = 1_000


def begin_with_the_minute(apps, schema_editor):
    rows = apps.get_model("evermuse_outbox", "OutboxRecord").objects.using(schema_editor.connection.alias)
    last = 0
    while page := list(
        rows.filter(pk__gt=last).only("workspace", "identity", "payload").order_by("pk")[:CHUNK]
    ):
        last = page[-1].pk
        former = [row for row in page if row.identity.version != 7]
        for row in former:
            row.identity = _identity(row)
        rows.bulk_update(former, ["identity"])


def _identity(row):
    from evermuse_outbox.evermuse.records import make_identity

    fields = json.loads(row.payload)
    return make_identity(row.workspace, fields["_type"], fields["_event_at"], fields["_vendor_ids"])


class Migration(migrations.Migration):
    # A transaction for each chunk: nothing is lost where it is interrupted and begun again.
    atomic = False
    dependencies = [("evermuse_outbox", "0007_exact_groups")]
    operations = [migrations.RunPython(begin_with_the_minute, migrations.RunPython.noop)]
