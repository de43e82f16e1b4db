"""Erase records: lock, report, replace what quotes them, delete, and record who did it, in one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from django.db import connections, transaction
from django.db.models import F

from ...models import (
    ActionKind,
    ById,
    Decision,
    OutboxAction,
    OutboxDeferral,
    OutboxRecord,
    OutboxRejection,
    OutboxRuleMatch,
    by_id,
    disable_jit,
)
from ...search import forget_terms, stop_indexing
from .evermuse_copy import AtEvermuse, ErasedRecord, describe_copies
from .forget import forget_batches, forget_notes, forget_reasons

Report = Callable[[Sequence[ErasedRecord]], None]


@dataclass(slots=True)
class Erased:
    """What an erasure changed so far.

    Attributes:
        records: number of records, by what Evermuse has of them.
        action: the row of the action log; None as long as nothing was erased.
    """

    records: Counter[AtEvermuse] = field(default_factory=Counter)
    action: OutboxAction | None = None

    @property
    def count(self) -> int:
        """The number of erased records."""
        return self.records.total()


def erase_records(
    using: str,
    pks: Collection[int],
    decision: Decision,
    *,
    target: str = "records",
    erased: Erased | None = None,
    report: Report | None = None,
) -> Erased:
    """Delete records, all their versions, and what quotes them, in one transaction. Return what was erased so far.

    Give at most a few hundred ids, so that the transaction is short. Ids without a record are skipped.

    Args:
        using: database alias.
        pks: ids of the records.
        decision: the person and the reason. The reason must not contain what is erased.
        target: what is erased, in words that do not show it; for the action log.
        erased: the result of the earlier calls for the same decision, to which this one adds.
        report: called with a line for each record, before it is deleted. If it raises, nothing is erased.
    """
    before = erased or Erased()
    with transaction.atomic(using=using):
        lines = delete_records(using, pks, report)
        if not lines:
            return before
        action = _log(using, before.action, decision, target, lines)
    return Erased(before.records + Counter(line.at_evermuse for line in lines), action)


def delete_records(using: str, pks: Collection[int], report: Report | None = None) -> list[ErasedRecord]:
    """Erase records as :func:`erase_records`, in the open transaction and without a row in the action log."""
    disable_jit(using)
    locked = _lock(using, with_versions(using, pks))
    if not locked:
        return []
    lines, texts, batches = describe_copies(using, locked)
    if report:
        report(lines)
    forget_batches(using, batches, locked, texts)
    forget_reasons(using, texts)
    forget_notes(using, locked)
    _delete(using, locked)
    return lines


def with_versions(using: str, pks: Collection[int]) -> list[int]:
    """Return the ids of these records and of all other versions of them.

    Without the row of one version, the outbox would not know that an older version must not follow it.
    """
    identities = OutboxRecord.rows.using(using).filter(by_id(pks)).values_list("identity", flat=True)
    versions = OutboxRecord.rows.using(using).filter(identity__in=set(identities))
    return sorted({*pks, *versions.values_list("pk", flat=True)})


def _lock(using: str, pks: Collection[int]) -> list[int]:
    """Lock the records, so that no worker moves them to another batch meanwhile. Return their ids."""
    rows = OutboxRecord.rows.using(using).filter(by_id(sorted(pks))).order_by("pk")
    if connections[using].features.has_select_for_update:
        rows = rows.select_for_update()
    return list(rows.values_list("pk", flat=True))


def _delete(using: str, pks: Sequence[int]) -> None:
    """Delete the records and the rows that are about them."""
    OutboxRejection.objects.using(using).filter(ById(F("record_id"), pks))._raw_delete(using)
    stop_indexing(using)
    forget_terms(using, pks)
    OutboxRuleMatch.objects.using(using).forget(pks)
    OutboxDeferral.objects.using(using).filter(by_id(pks))._raw_delete(using)
    OutboxRecord.rows.using(using).filter(by_id(pks))._raw_delete(using)


def _log(
    using: str,
    action: OutboxAction | None,
    decision: Decision,
    target: str,
    lines: Sequence[ErasedRecord],
) -> OutboxAction:
    """Insert the row of the action, or add to the row that an earlier call inserted."""
    actions = OutboxAction.objects.using(using)
    if action:
        actions.add_records(action.pk, len(lines))
        return action
    workspaces = {line.workspace for line in lines}
    return actions.log(
        ActionKind.ERASE,
        decision,
        workspace=workspaces.pop() if len(workspaces) == 1 else "",
        target=target,
        records=len(lines),
    )
