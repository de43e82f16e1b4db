"""What the stored forms of records say without a key: which records are encrypted, and under which data keys."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from django.db.models import Q
from django.db.models.functions import Substr

from ...encryption import PREFIX, is_on, key_id_of
from .data_key import OutboxDataKey

HEAD_LENGTH = 24
"""Characters of the prefix and of the longest id of a data key, with its colon."""


class StoredKey(NamedTuple):
    """A record, and the id of the data key that encrypts its payload; None if that is plain text."""

    pk: int
    workspace: str
    label_set_id: int | None
    size: int
    key: int | None


def is_encrypted() -> Q:
    """Return the condition that a payload is encrypted."""
    return Q(payload__startswith=PREFIX)


def is_under(keys: Collection[int]) -> Q:
    """Return the condition that one of these data keys encrypts the payload. ``keys`` must not be empty."""
    condition = Q()
    for key in keys:
        condition |= Q(payload__startswith=f"{PREFIX}{key}:")
    return condition


def key_ids_of(rows: Any) -> Iterator[StoredKey]:
    """Yield the data key of each of the records. The payloads themselves are not read."""
    columns = rows.annotate(head=Substr("payload", 1, HEAD_LENGTH)).order_by("pk")
    for pk, workspace, label_set, size, head in columns.values_list(
        "pk", "workspace", "label_set_id", "size", "head"
    ):
        yield StoredKey(pk, workspace, label_set, size, key_id_of(head))


def destroyed_among(rows: Any, pks: Collection[int]) -> dict[int, int]:
    """Return the records whose data key was destroyed, with the id of that key. Without master keys, read nothing."""
    if not is_on() or not pks:
        return {}
    keys = {each.pk: each.key for each in key_ids_of(rows.filter(pk__in=pks)) if each.key is not None}
    data_keys = OutboxDataKey.objects.using(rows.db).filter(
        pk__in=set(keys.values()), destroyed_at__isnull=False
    )
    destroyed = set(data_keys.values_list("pk", flat=True))
    return {pk: key for pk, key in keys.items() if key in destroyed}
