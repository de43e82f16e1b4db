"""The kinds of jobs that change records: retry, discard, erase and reschedule."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext, gettext_noop
from django.utils.translation import gettext_lazy as _

from ..database_clock import database_now
from ..models import (
    DEFERRED,
    ActionKind,
    Decision,
    OperationState,
    OutboxDeferral,
    OutboxOperation,
    OutboxOperationMember,
    OutboxRecord,
    OutboxWorkspace,
    RecordState,
    by_id,
)
from ..models.payloads import destroyed_among
from ..operations import NotPossible
from ..operations.erasing import ErasedRecord, delete_records
from .kinds import Kind, Options, Refusal, Refusals, register

GONE = gettext_noop("It does not exist any more")
NOT_REJECTED = gettext_noop("It is not rejected")
HAS_NEWER = gettext_noop("It has a newer version, which it would overwrite at Evermuse")
IN_BATCH = gettext_noop("A batch has taken it")
KEY_DESTROYED = gettext_noop("Its data key was destroyed, so that nothing can read its payload")
IS_OVER = gettext_noop("It is finished already")
NOT_SCHEDULED = gettext_noop("It is not scheduled")
EXPIRES_BEFORE = gettext_noop("It expires before that time")

SEND_AFTER = "send_after"
"""The option with the new time in ISO 8601. Without it, the records are sent now."""


def refusals_to_send_again(using: str, pks: Sequence[int]) -> Refusals:
    """Return which records cannot be sent again: those that are not rejected, or have a newer version."""
    rows: Any = OutboxRecord.rows.using(using).filter(by_id(pks)).with_versions()
    versions = {
        pk: (closed_as, newer) for pk, closed_as, newer in rows.values_list("pk", "closed_as", "newer")
    }
    refusals: Refusals = {pk: Refusal(GONE) for pk in pks if pk not in versions}
    for pk, (closed_as, newer) in versions.items():
        if closed_as != RecordState.REJECTED:
            refusals[pk] = Refusal(NOT_REJECTED)
        elif newer:
            refusals[pk] = Refusal(HAS_NEWER, f"#{newer}")
    for pk in destroyed_among(OutboxRecord.rows.using(using), pks):
        refusals.setdefault(pk, Refusal(KEY_DESTROYED))
    return refusals


@register
class Retry(Kind):
    """Send rejected records again, after their cause was corrected."""

    name, label, action = "retry", _("Retry rejected records"), ActionKind.RETRY
    permission, sends = "retry_outboxrecord", True

    def check(self, using: str, pks: Sequence[int], options: Options) -> Refusals:
        """Refuse records that are not rejected, or that have a newer version."""
        return refusals_to_send_again(using, pks)

    def perform(self, using: str, pks: Sequence[int], decision: Decision, options: Options) -> Refusals:
        """Change rejected → pending. If two versions of one identity are retried, sealing supersedes the older one."""
        rows = OutboxRecord.rows.using(using)
        rows.lock_rows(pks)
        refusals = refusals_to_send_again(using, pks)
        reopened = [pk for pk in pks if pk not in refusals]
        rows.reopen(reopened)
        OutboxDeferral.objects.using(using).forget_passed_expiry(reopened)
        return refusals


@register
class Discard(Kind):
    """Never send records that are in no batch."""

    name, label, action = "discard", _("Discard records"), ActionKind.DISCARD
    permission, is_final = "discard_outboxrecord", True

    def check(self, using: str, pks: Sequence[int], options: Options) -> Refusals:
        """Refuse records that a batch has taken, and those that are over."""
        rows = OutboxRecord.rows.using(using).filter(by_id(pks)).values_list("pk", "closed_as", "batch_id")
        refusals: Refusals = dict.fromkeys(pks, Refusal(GONE))
        for pk, closed_as, batch in rows:
            if closed_as in (RecordState.REJECTED, *DEFERRED) or (closed_as is None and batch is None):
                del refusals[pk]
            else:
                refusals[pk] = Refusal(IS_OVER) if closed_as else Refusal(IN_BATCH, f"#{batch}")
        return refusals

    def perform(self, using: str, pks: Sequence[int], decision: Decision, options: Options) -> Refusals:
        """Change pending, rejected, scheduled, held → discarded."""
        rows = OutboxRecord.rows.using(using)
        rows.lock_rows(pks)
        refusals = self.check(using, pks, options)
        rows.discard_by_id([pk for pk in pks if pk not in refusals])
        return refusals


@register
class Erase(Kind):
    """Delete records and everything that quotes them, with all their versions.

    Each member keeps a note: whether Evermuse has the record, and the ids of the batches that Evermuse knows. Its
    vendor ids are erased, so give them out before: :class:`~evermuse_outbox.operations.erasing.ErasedRecord` has them.
    The selection and the reason of the job must not name a person; see ``operations.erasing.mask``.
    """

    name, label, action = "erase", _("Erase records"), ActionKind.ERASE
    permission, chunk, is_final, hides_selection = "erase_outboxrecord", 200, True, True

    def check(self, using: str, pks: Sequence[int], options: Options) -> Refusals:
        """Refuse nothing: records in every state can be erased."""
        return {}

    def perform(self, using: str, pks: Sequence[int], decision: Decision, options: Options) -> Refusals:
        """Erase the members and their other versions. A member that was erased with another one is done, too."""
        _note(using, delete_records(using, pks))
        return {}


def _note(using: str, lines: Sequence[ErasedRecord]) -> None:
    """Store with the members of running jobs what Evermuse has of them."""
    notes = {line.record: line.summary() for line in lines}
    running = OutboxOperation.objects.using(using).filter(kind=Erase.name, state=OperationState.RUNNING)
    rows = OutboxOperationMember.objects.using(using)
    jobs = list(running.values_list("pk", flat=True))
    members = rows.filter(operation_id__in=jobs, target__in=list(notes)).values_list("pk", "target")
    changed = [OutboxOperationMember(pk=pk, note=notes[target]) for pk, target in members]
    rows.bulk_update(changed, ["note"], batch_size=200)


@register
class Reschedule(Kind):
    """Send scheduled records now, or at another time. That time also replaces the wait of a debounced record."""

    name, label = "reschedule", _("Send scheduled records now, or at another time")
    action, permission, sends = ActionKind.RESCHEDULE, "retry_outboxrecord", True

    def prepare(self, using: str, options: Options) -> None:
        """Refuse a time that cannot be read."""
        _new_time(using, options)

    def check(self, using: str, pks: Sequence[int], options: Options) -> Refusals:
        """Refuse records that are not scheduled, or that expire before the new time."""
        rows = OutboxRecord.rows.using(using).filter(by_id(pks))
        states, at = dict(rows.values_list("pk", "closed_as")), _new_time(using, options)
        deferrals = OutboxDeferral.objects.using(using).filter(by_id(pks), expires_at__lte=at)
        expired = dict(deferrals.values_list("pk", "expires_at"))
        refusals: Refusals = {}
        for pk in pks:
            if pk not in states:
                refusals[pk] = Refusal(GONE)
            elif states[pk] != RecordState.SCHEDULED:
                refusals[pk] = Refusal(NOT_SCHEDULED)
            elif pk in expired:
                refusals[pk] = Refusal(EXPIRES_BEFORE, f"{expired[pk]:%Y-%m-%d %H:%M:%S %Z}".rstrip())
        return refusals

    def perform(self, using: str, pks: Sequence[int], decision: Decision, options: Options) -> Refusals:
        """Store the new time. The workers do the rest within a second of that time."""
        rows = OutboxRecord.rows.using(using).filter(by_id(pks))
        # The workers apply what is due under the sealing lock. They have either done it, or see the new time.
        for name in sorted(set(rows.order_by().values_list("workspace", flat=True))):
            OutboxWorkspace.objects.using(using).lock_for_sealing(name)
        OutboxRecord.rows.using(using).lock_rows(pks)
        refusals = self.check(using, pks, options)
        changed = OutboxDeferral.objects.using(using).filter(by_id([pk for pk in pks if pk not in refusals]))
        changed.reschedule(_new_time(using, options))
        return refusals


def _new_time(using: str, options: Options) -> datetime:
    stored = options.get(SEND_AFTER)
    if not stored:
        return database_now(using)
    try:
        at = parse_datetime(stored)
    except (TypeError, ValueError):
        at = None
    if at is None:
        raise NotPossible(gettext("%(value)s is no time.") % {"value": repr(stored)})
    return at
