"""The identity of a record: if two records have the same one, Evermuse overwrites the first with the second."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from hashlib import blake2b

_UUID_7 = 0x7 << 76 | 0b10 << 62
_UUID_7_MASK = 0xF << 76 | 0b11 << 62
"""The bits of a UUID for its version (7) and its variant. MariaDB stores version 7 in the order of its text. It stores
some values of version 8 in another order, and rejects values that are not a UUID."""


def make_identity(
    workspace: str, record_type: str, event_at: str, vendor_ids: Mapping[str, str]
) -> uuid.UUID:
    """Return the identity that all versions of one record share.

    The UUID starts with the minute of ``event_at`` in readable form (``20260301-0800-7…``). A hash of all four
    arguments follows. The order of ``vendor_ids`` does not matter. Source of the three fields: OpenAPI document,
    ``_vendor_ids``. The workspace is included because each workspace has its own records.

    The minute comes first so that records of the same time are neighbours in the database index. Only a small part
    of the index is then in use, however large it grows.

    Args:
        workspace: the name of the workspace.
        record_type: the ``_type`` in lower case.
        event_at: UTC in whole seconds, ``YYYY-MM-DDTHH:MM:SSZ``.
        vendor_ids: the ``_vendor_ids``.
    """
    # The length is written before each part, so that different ids never give the same text.
    text = f"{len(workspace)}:{workspace},{len(record_type)}:{record_type},{len(event_at)}:{event_at},"
    for name, vendor_id in sorted(vendor_ids.items()):
        text += f"{len(name)}:{name},{len(vendor_id)}:{vendor_id},"
    minute = f"{event_at[:4]}{event_at[5:7]}{event_at[8:10]}{event_at[11:13]}{event_at[14:16]}"
    value = int(minute + blake2b(text.encode(), digest_size=10).hexdigest(), 16)
    return uuid.UUID(int=value & ~_UUID_7_MASK | _UUID_7)
