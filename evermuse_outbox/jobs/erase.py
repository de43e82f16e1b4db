"""The kind of job that erases records."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.translation import gettext_lazy as _

from ..models import ActionKind, Decision, OperationState, OutboxOperation, OutboxOperationMember
from ..operations.erasing import ErasedRecord, delete_records
from .kinds import Kind, Options, Refusals, register


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
