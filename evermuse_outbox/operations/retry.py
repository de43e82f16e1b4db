"""What a person asks for: rejected records go back into the queue. The next tick finds them there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connections, transaction

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
        chosen = rows.rejected().filter(pk__in=pks).order_by("pk")
        if connections[using].features.has_select_for_update:
            list(chosen.select_for_update().values_list("pk"))  # two people may ask at once
        rows_with_newer: Any = chosen.with_versions()
        versions = dict(rows_with_newer.values_list("pk", "newer"))
        # Of two rejected versions of one identity that are asked for together, sealing keeps the newer one.
        refused = {pk: newer for pk, newer in versions.items() if newer}
        reopened = [pk for pk in versions if pk not in refused]
        rows.reopen(reopened)
    return Retried(tuple(reopened), refused)
