"""What a person asks for: rejected records go back into the queue. The next tick finds them there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction

from ..models import OutboxRecord


@dataclass(frozen=True, slots=True)
class Retried:
    """What a retry came to: ids that are pending again, and those refused → the newer version's id.

    Ids that were asked for and stand in neither were not rejected (any more).
    """

    reopened: tuple[int, ...]
    refused: dict[int, int]


def retry(using: str, pks: Sequence[int]) -> Retried:
    """rejected → pending, for those of ``pks`` that no newer version has overtaken.

    An older version that arrived after a newer one would destroy it at Evermuse, so it is refused.
    """
    with transaction.atomic(using=using):
        rows = OutboxRecord.rows.using(using)
        chosen = list(rows.rejected().filter(pk__in=pks).overtaken().defer("payload").order_by("pk"))
        # Of two rejected versions of one identity that are asked for together, sealing keeps the newer one.
        refused = {record.pk: record.newer for record in chosen if record.newer}
        reopened = [record.pk for record in chosen if record.pk not in refused]
        rows.reopen(reopened)
    return Retried(tuple(reopened), refused)
