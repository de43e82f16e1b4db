"""Edit and retry: replace a rejected record by a corrected version, which is validated as at enqueue."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import F, OuterRef, Subquery, Value
from django.db.models.functions import Coalesce
from django.db.models.lookups import In
from django.utils.translation import gettext as _

from ..conf import get_settings
from ..evermuse.records import Envelope, validate
from ..models import DEFERRED, ActionKind, Decision, OutboxAction, OutboxRecord, RecordState, by_id
from ..models.insert import NO_EXTRAS, insert_many
from .refusal import NotPossible


class Version(NamedTuple):
    """A corrected version of a record: the id of the original, its workspace, the contract, and the new envelope."""

    original: int
    workspace: str
    contract: str
    envelope: Envelope
    label_set_id: int | None


def edit_record(
    using: str, pk: int, envelope: Mapping[str, Any], *, by: str = "", reason: str = ""
) -> OutboxRecord:
    """Enqueue a corrected version of a rejected record, and return it. The original is superseded by it and kept.

    Args:
        using: database alias.
        pk: id of the rejected record.
        envelope: the complete corrected record, as for ``enqueue``.
        by: name of the person who decided it; empty for the user of this process.
        reason: why, in the person's words.

    Raises:
        InvalidRecord: Evermuse would reject the corrected record; the error names every wrong field.
        NotPossible: The record is not rejected, has a newer version, or its workspace is not in the settings.
    """
    with transaction.atomic(using=using):
        rows: Any = OutboxRecord.rows.using(using)
        rows.lock_rows([pk])
        record = rows.filter(pk=pk).with_versions().first()
        if record is None:
            text = _("No record #%(record)s in the database %(database)s; it may have been purged.")
            raise NotPossible(text % {"record": pk, "database": repr(using)})
        if record.state != RecordState.REJECTED:
            text = _("Record #%(record)s is %(state)s. Only rejected records are edited.")
            raise NotPossible(text % {"record": pk, "state": record.get_state_display()})
        if later := record.newer or deferred_versions(using, [pk]).get(pk):
            text = _("Record #%(record)s has a newer version, record #%(newer)s. Edit that one instead.")
            raise NotPossible(text % {"record": pk, "newer": later})
        newer = replace_records(using, [make_version(record, envelope)])[pk]
        OutboxAction.objects.using(using).log(
            ActionKind.EDIT,
            Decision(by, reason),
            workspace=record.workspace,
            target=f"record #{pk}",
            records=1,
            result=f"It is superseded by record #{newer}.",
        )
    version: OutboxRecord = OutboxRecord.objects.using(using).get(pk=newer)
    return version


def make_version(record: OutboxRecord, envelope: Mapping[str, Any]) -> Version:
    """Validate a corrected envelope as ``enqueue`` does, in the present contract of the record's workspace.

    Raises:
        InvalidRecord: Evermuse would reject it.
        NotPossible: The workspace is not in the settings.
    """
    try:
        contract = get_settings().workspace(record.workspace).contract
    except ImproperlyConfigured as error:
        raise NotPossible(_("The settings have no workspace %r.") % record.workspace) from error
    valid = validate(envelope, contract=contract, workspace=record.workspace)
    return Version(record.pk, record.workspace, contract, valid, record.label_set_id)


def deferred_versions(using: str, pks: Sequence[int]) -> dict[int, int]:
    """Return those of the records that have a newer version which is scheduled or held, with the id of that version.

    A corrected version of such a record would be newer than that one, and supersede it at its time.
    """
    # Written so that no partial index matches: the index of identities finds the one or two versions.
    is_deferred = In(Coalesce(F("closed_as"), Value("")), [state.value for state in DEFERRED])
    later = OutboxRecord.rows.filter(is_deferred, identity=OuterRef("identity"), pk__gt=OuterRef("pk"))
    rows: Any = OutboxRecord.rows.using(using).filter(by_id(pks)).order_by()
    annotated = rows.annotate(deferred=Subquery(later.order_by("-pk").values("pk")[:1]))
    return {pk: newer for pk, newer in annotated.values_list("pk", "deferred") if newer}


def replace_records(using: str, versions: Iterable[Version]) -> dict[int, int]:
    """Insert corrected versions, and supersede their originals. Return the id of each original → id of its version.

    Call it in a transaction that has locked the originals.
    """
    by_target: defaultdict[tuple[str, str], list[Version]] = defaultdict(list)
    for version in versions:
        by_target[version.workspace, version.contract].append(version)
    newer: dict[int, int] = {}
    for (workspace, contract), group in by_target.items():
        label_sets = [version.label_set_id for version in group]
        extras = {"label_set_id": label_sets} if any(label_sets) else NO_EXTRAS
        insert_many(using, workspace, contract, [version.envelope for version in group], extras)
        latest = _latest_versions(using, group)
        newer |= {version.original: latest[version.envelope.identity] for version in group}
    OutboxRecord.rows.using(using).replace(newer)
    return newer


def _latest_versions(using: str, versions: list[Version]) -> dict[Any, int]:
    """Return identity → id of its latest version. Some databases return no ids for an INSERT of several rows."""
    identities = {version.envelope.identity for version in versions}
    rows = OutboxRecord.rows.using(using).filter(identity__in=identities).order_by("pk")
    return dict(rows.values_list("identity", "pk"))
