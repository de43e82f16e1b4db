"""Master keys for tests of the encryption at rest, and what tests look at in the database."""

from __future__ import annotations

import base64

from django.db import connections

KEY, OTHER_KEY, THIRD_KEY = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2, 3))
"""Keys of 32 equal bytes."""


def stored_line(row):
    """Return what the database has in the column of the payload."""
    with connections[row._state.db].cursor() as cursor:
        cursor.execute("SELECT payload FROM evermuse_outbox_outboxrecord WHERE id = %s", [row.pk])
        return cursor.fetchone()[0]


def store_line(row, text):
    """Write the column of the payload, as a person with SQL does."""
    with connections[row._state.db].cursor() as cursor:
        cursor.execute("UPDATE evermuse_outbox_outboxrecord SET payload = %s WHERE id = %s", [text, row.pk])
