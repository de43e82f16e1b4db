"""Explain until when a record is scheduled or held, and when it expires."""

from __future__ import annotations

from django.utils.translation import gettext as _

from ...models import OutboxDeferral, OutboxRecord, RecordState
from .rules import explain_held
from .times import format_time


def explain_deferred(record: OutboxRecord) -> str:
    """Return why a scheduled or held record is not sent now, and what happens next."""
    row = _deferral_of(record)
    if row is None:
        return _("It is not sent now, and its time is not known: discard it, or enqueue it again.")
    return " ".join([_explain_wait(record, row), *_explain_expiry(row)])


def explain_expiry(record: OutboxRecord) -> str:
    """Return when a pending record expires; nothing if it does not."""
    row = _deferral_of(record)
    return " ".join(_explain_expiry(row)) if row else ""


def explain_wait_for_newer(record: OutboxRecord) -> str:
    """Return that a pending record waits for a pending newer version that may expire; nothing if it does not."""
    row = OutboxRecord.rows.using(record._state.db).filter(pk=record.pk).with_versions().first()
    newer = row and OutboxRecord.objects.using(record._state.db).pending().filter(pk=row.newer).first()
    deferral = _deferral_of(newer) if newer else None
    if deferral is None or deferral.expires_at is None:
        return ""
    return _(
        "Waiting, because the newer version, record #%(record)s, may expire. This record is sent only if that one "
        "expires, at %(time)s."
    ) % {"record": deferral.pk, "time": format_time(deferral.expires_at)}


def _deferral_of(record: OutboxRecord) -> OutboxDeferral | None:
    return OutboxDeferral.objects.using(record._state.db).filter(pk=record.pk).first()


def _explain_wait(record: OutboxRecord, row: OutboxDeferral) -> str:
    if record.state == RecordState.HELD:
        return explain_held(record, row.rule_id)
    values = {"time": format_time(row.send_after), "latest": format_time(row.latest_at)}
    if row.latest_at:
        return (
            _(
                "It waits for a newer version until %(time)s, because it was enqueued with debounce. Each newer "
                "version starts the wait anew. At the latest, one of them is sent at %(latest)s."
            )
            % values
        )
    return _("It is not sent before %(time)s.") % values


def _explain_expiry(row: OutboxDeferral) -> list[str]:
    if row.expires_at is None:
        return []
    return [
        _("If it is in no batch at %(time)s, it expires and is not sent.")
        % {"time": format_time(row.expires_at)}
    ]
