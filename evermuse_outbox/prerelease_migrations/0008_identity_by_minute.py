"""Give all records identities that begin with the minute of the record.

Records of the same time are then neighbours in the index of identities. Versions are found by their identity, so every
enqueueing process must have the new version before the workers start again.
"""

import json
import uuid
from hashlib import blake2b
from itertools import chain

from django.db import migrations

CHUNK = 1_000
UUID_7 = 0x7 << 76 | 0b10 << 62
UUID_7_MASK = 0xF << 76 | 0b11 << 62


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
    fields = json.loads(row.payload)
    vendor_ids = chain.from_iterable(sorted(fields["_vendor_ids"].items()))
    event_at = fields["_event_at"]
    parts = (row.workspace, fields["_type"], event_at, *vendor_ids)
    text = "".join([f"{len(part)}:{part}," for part in parts])
    minute = event_at[0:4] + event_at[5:7] + event_at[8:10] + event_at[11:13] + event_at[14:16]
    value = int(minute + blake2b(text.encode(), digest_size=10).hexdigest(), 16)
    return uuid.UUID(int=value & ~UUID_7_MASK | UUID_7)


class Migration(migrations.Migration):
    # One transaction for each chunk, so that an interrupted migration can start again.
    atomic = False
    dependencies = [("evermuse_outbox", "0007_exact_groups")]
    operations = [migrations.RunPython(begin_with_the_minute, migrations.RunPython.noop)]
