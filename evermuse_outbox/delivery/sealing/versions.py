"""The latest version wins: select the records that may be sent beside the other versions of their identities.

Records with the same identity are versions of one thing, and the one enqueued last is the latest. While an earlier
version is in flight, a record is *blocked by an earlier version* and stays pending. Without this module, an older
version could arrive after a newer one and overwrite it at Evermuse.

A pending newer version that may expire supersedes no older one: if it expires, the older one is the latest. Until the
newer one is sealed or has expired, the older one waits.

Each query reads a few entries of the index of identities for a record. ``pages`` says which database can find sole
versions in the statement that locks the records.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from django.db.models import Exists

from ...models import (
    STILL_PENDING,
    OutboxBatch,
    OutboxDeferral,
    OutboxRecord,
    by_id,
)
from ..context import DeliveryContext
from ..rules import has_rules, withhold_versions


class Record(Protocol):
    """A record with its id. The order of ids is the order of enqueueing."""

    @property
    def pk(self) -> int:
        """Return the id."""
        ...


R = TypeVar("R", bound=Record)


class OtherVersions(NamedTuple):
    """The other versions of a record; see ``RecordQuerySet.with_versions``."""

    newer: int | None
    older_batch: int | None
    has_rules: bool
    """Whether an active standing rule applies to the workspace."""
    may_newer_expire: bool
    """Whether the newer version is pending and may expire before it is sealed."""


def supersede_older(context: DeliveryContext, records: Sequence[R]) -> tuple[list[R], bool]:
    """Supersede the records that have a newer version.

    Return the others, and whether an active standing rule applies to the workspace. A record with a newer version that
    may expire is among the others: it is in a batch already, so it does not wait.
    """
    versions = _other_versions(context, records)
    has_rules = any(version.has_rules for version in versions.values())
    return _supersede(context, records, versions), has_rules


def supersede_and_select_sendable(
    context: DeliveryContext, records: Sequence[R], sole: Collection[int]
) -> list[R]:
    """Supersede older versions, and return the records that may be sent now.

    A record that is blocked by an earlier version is not returned. It stays pending until that batch has ended. Nor
    is a record with a newer version that may expire: it waits until that one is sealed or has expired.
    ``sole`` are the ids of the records without another version.
    """
    several = [record for record in records if record.pk not in sole]
    if not several:
        return list(records)
    sendable = {*sole, *(record.pk for record in _select_of_several(context, several))}
    return [record for record in records if record.pk in sendable]


def supersede_duplicates(context: DeliveryContext, records: Sequence[R]) -> list[R]:
    """Keep the newest record of each identity, and supersede the others of ``records``.

    A newer version may have been committed between the reads of two pages.
    """
    rows = OutboxRecord.rows.using(context.using).filter(by_id([record.pk for record in records]))
    identities = dict(rows.order_by("pk").values_list("pk", "identity"))
    newest = {identity: pk for pk, identity in identities.items()}
    older = {pk: newest[identity] for pk, identity in identities.items() if pk != newest[identity]}
    OutboxRecord.rows.using(context.using).supersede(older)
    return [record for record in records if record.pk not in older]


def sole_versions(context: DeliveryContext, records: Sequence[Record]) -> set[int]:
    """Return the ids of the records without another version. That is nearly all of them."""
    rows = OutboxRecord.rows.using(context.using).filter(by_id([record.pk for record in records]))
    return set(rows.sole_versions().values_list("pk", flat=True))


def _select_of_several(context: DeliveryContext, records: Sequence[R]) -> list[R]:
    """Supersede older versions among records with other versions; return those that need not wait."""
    versions = _other_versions(context, records)
    left = _supersede(context, records, versions)
    newest = [record for record in left if not versions[record.pk].may_newer_expire]
    open_batches = _open_batches(context, {versions[record.pk].older_batch for record in newest})
    return [record for record in newest if versions[record.pk].older_batch not in open_batches]


def _other_versions(context: DeliveryContext, records: Sequence[Record]) -> dict[int, OtherVersions]:
    """Return the other versions of records, without newer ones that a standing rule withholds.

    Such a version is not sent, or not yet. So it must not supersede an older one.
    """
    while True:
        versions = _read_versions(context, records)
        newer = {version.newer for version in versions.values() if version.newer and version.has_rules}
        if not newer or not withhold_versions(context, newer):
            return versions


def _read_versions(context: DeliveryContext, records: Sequence[Record]) -> dict[int, OtherVersions]:
    rows: Any = OutboxRecord.rows.using(context.using).filter(by_id([record.pk for record in records]))
    rules, deferred = has_rules(context.workspace_name), OutboxDeferral.objects.of(context.workspace_name)
    columns = rows.with_versions().annotate(rules=rules, deferred=Exists(deferred))
    read = list(columns.values_list("pk", "newer", "older_batch", "rules", "deferred"))
    expiring = _expiring(context, {newer for _, newer, _, _, is_any in read if newer and is_any})
    return {
        pk: OtherVersions(newer, older_batch, bool(is_ruled), newer in expiring)
        for pk, newer, older_batch, is_ruled, _ in read
    }


def _expiring(context: DeliveryContext, pks: Collection[int]) -> set[int]:
    """Return those of the records that are pending and may expire."""
    rows = OutboxDeferral.objects.using(context.using).filter(by_id(list(pks)), expires_at__isnull=False)
    deferred = list(rows.values_list("pk", flat=True)) if pks else []
    pending = OutboxRecord.rows.using(context.using).filter(by_id(deferred), STILL_PENDING)
    return set(pending.values_list("pk", flat=True)) if deferred else set()


def _supersede(context: DeliveryContext, records: Sequence[R], versions: dict[int, OtherVersions]) -> list[R]:
    """Supersede the records with a newer version in ``versions`` that cannot expire, and return the others."""
    newer_by_pk = {
        pk: version.newer
        for pk, version in versions.items()
        if version.newer and not version.may_newer_expire
    }
    OutboxRecord.rows.using(context.using).supersede(newer_by_pk)
    return [record for record in records if record.pk in versions and record.pk not in newer_by_pk]


def _open_batches(context: DeliveryContext, batches: Collection[int | None]) -> set[int]:
    """Return the batches that have not ended.

    For each record, it is enough to know the batch of the earlier version that was sealed last. That version was sealed
    only after the batches of all earlier ones had ended.
    """
    sealed = [pk for pk in batches if pk]
    if not sealed:
        return set()
    rows = OutboxBatch.objects.using(context.using).open()
    return set(rows.filter(by_id(sealed)).values_list("pk", flat=True))
