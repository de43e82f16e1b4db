"""Retry: put rejected records back into the queue after their cause was corrected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connections, transaction

from ..models import OutboxRecord


@dataclass(frozen=True, slots=True)
class Retried:
    """The result of a retry. Ids that are in neither of the two were not rejected any more.

    Attributes:
        reopened: ids of the records that are pending again.
        refused: id of each record that stays rejected → id of its newer version.
    """

    reopened: tuple[int, ...]
    refused: dict[int, int]


def retry_records(using: str, pks: Sequence[int]) -> Retried:
    """Change rejected → pending for the records of ``pks`` that have no newer version.

    A record with a newer version is refused: if it arrived after the newer one, it would overwrite that at Evermuse.
    """
    with transaction.atomic(using=using):
        rows = OutboxRecord.rows.using(using)
        rejected = rows.rejected().filter(pk__in=pks).order_by("pk")
        if connections[using].features.has_select_for_update:
            list(rejected.select_for_update().values_list("pk"))  # two operators may retry the same records
        rows_with_newer: Any = rejected.with_versions()
        versions = dict(rows_with_newer.values_list("pk", "newer"))
        refused = {pk: newer for pk, newer in versions.items() if newer}
        # If two rejected versions of one identity are retried together, sealing supersedes the older one.
        reopened = [pk for pk in versions if pk not in refused]
        rows.reopen(reopened)
    return Retried(tuple(reopened), refused)
