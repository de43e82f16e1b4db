"""Retry: put rejected records back into the queue after their cause was corrected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from ..models import ActionKind, Decision, OutboxAction, OutboxDeferral, OutboxRecord, describe_records
from ..models.payloads import destroyed_among


@dataclass(frozen=True, slots=True)
class Retried:
    """The result of a retry. Ids that are in neither of the two were not rejected any more.

    Attributes:
        reopened: ids of the records that are pending again.
        refused: id of each record that stays rejected → id of its newer version.
        unreadable: ids of the records that stay rejected because their data key was destroyed.
    """

    reopened: tuple[int, ...]
    refused: dict[int, int]
    unreadable: tuple[int, ...] = ()


def retry_records(using: str, pks: Sequence[int], *, by: str = "", reason: str = "") -> Retried:
    """Change rejected → pending for the records of ``pks`` that have no newer version.

    A record with a newer version is refused: if it arrived after the newer one, it would overwrite that at Evermuse.
    Use it for few records; a job changes any number (see ``operations.jobs``).

    Args:
        using: database alias.
        pks: ids of the records.
        by: name of the person who decided it; empty for the user of this process.
        reason: why, in the person's words.
    """
    with transaction.atomic(using=using):
        rows = OutboxRecord.rows.using(using)
        rows.rejected().lock_rows(pks)  # two operators may retry the same records
        rows_with_newer: Any = rows.rejected().filter(pk__in=pks).order_by("pk").with_versions()
        versions = list(rows_with_newer.values_list("pk", "newer", "workspace"))
        refused = {pk: newer for pk, newer, _ in versions if newer}
        unreadable = destroyed_among(rows, [pk for pk, *_ in versions])
        # If two rejected versions of one identity are retried together, sealing supersedes the older one.
        reopened = [pk for pk, newer, _ in versions if not newer and pk not in unreadable]
        if rows.reopen(reopened):
            OutboxDeferral.objects.using(using).forget_passed_expiry(reopened)
            workspaces = {workspace for *_, workspace in versions}
            OutboxAction.objects.using(using).log(
                ActionKind.RETRY,
                Decision(by, reason),
                workspace=workspaces.pop() if len(workspaces) == 1 else "",
                target=describe_records(reopened),
                records=len(reopened),
                result=f"{len(refused)} were refused because they have a newer version" if refused else "",
            )
    return Retried(tuple(reopened), refused, tuple(unreadable))
