"""Replace lines by their hashes. The hash is that of the plain text, also of an encrypted line."""

from __future__ import annotations

import hashlib
from typing import Any

from django.db.models import Case, CharField, Value, When

from ...encryption import PREFIX, is_on
from ..columns import Sha256
from .unreadable import UnreadableLine

LINES_PER_READ = 100
"""Encrypted lines that are in memory at once."""


def drop_lines(rows: Any) -> int:
    """Replace the lines of these records by their hashes. Return how many. A line that is unreadable now stays."""
    is_encrypted = {"payload__startswith": PREFIX}
    count: int = _drop_encrypted(rows.filter(**is_encrypted)) if is_on() else 0
    # In this order: MySQL and MariaDB assign from left to right, and the hash needs the payload.
    count += rows.exclude(**is_encrypted).update(payload_sha256=Sha256("payload"), payload="")
    return count


def _drop_encrypted(rows: Any) -> int:
    pks = list(rows.order_by("pk").values_list("pk", flat=True))
    count = 0
    for start in range(0, len(pks), LINES_PER_READ):
        part = rows.filter(pk__in=pks[start : start + LINES_PER_READ])
        hashes = {
            pk: hashlib.sha256(line.encode()).hexdigest()
            for pk, line in part.values_list("pk", "payload")
            if not isinstance(line, UnreadableLine)
        }
        whens = [When(pk=pk, then=Value(digest)) for pk, digest in hashes.items()]
        if whens:
            hashed = Case(*whens, output_field=CharField())
            count += rows.filter(pk__in=list(hashes)).update(payload_sha256=hashed, payload="")
    return count
