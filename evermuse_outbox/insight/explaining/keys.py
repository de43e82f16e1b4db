"""Explain what single API keys do, and which batches wait for one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.utils.translation import gettext as _

from ...conf import UnknownWorkspace, Workspace, get_settings
from ...database_clock import database_now
from ...delivery.context import SHOWN, fingerprint_of
from ...delivery.gates import KEY_PATIENCE
from ...models import KeyPool, OutboxBatch, OutboxWorkspace
from .times import format_time


def list_keys(name: str) -> list[str]:
    """Return the fingerprints of the keys that the settings give a workspace now; nothing if it has one key."""
    workspace = _find_workspace(name)
    if workspace is None or not workspace.further_keys:
        return []
    return [fingerprint_of(each) for each in workspace.with_keys()]


def explain_blocked_keys(row: OutboxWorkspace) -> Iterator[str]:
    """Yield why a key of the workspace is not used, and until when. Nothing is yielded if it has one key."""
    blocks = KeyPool.of(row).blocks
    if not blocks:
        return
    now = database_now(row._state.db)
    for key in list_keys(row.pk):
        if block := blocks.get(key):
            text = (
                _(
                    "The API key %(key)s is refused since %(since)s: %(reason)s. It is tried again at %(until)s."
                )
                if block.kind == "refused"
                else _("The API key %(key)s is throttled until %(until)s.")
            )
            yield text % {
                "key": key[:SHOWN],
                "since": format_time(_moment(now, block.since)),
                "until": format_time(_moment(now, block.until)),
                "reason": block.reason.rstrip("."),
            }


def explain_wait_for_key(batch: OutboxBatch) -> str:
    """Return that a batch in doubt waits for its API key; an empty text if it does not."""
    workspace = _find_workspace(batch.workspace) if batch.in_doubt else None
    if workspace is None or (batch.api_key is None and not workspace.further_keys):
        return ""
    keys = [fingerprint_of(each) for each in workspace.with_keys() if not each.problem]
    blocks = KeyPool.of(OutboxWorkspace.objects.using(batch._state.db).get(pk=batch.workspace)).blocks
    if not keys or (batch.api_key in keys and batch.api_key not in blocks):
        return ""
    text = _(
        "It was sent with the API key %(key)s, which cannot be used now. If that is still so at %(time)s, it is looked "
        "for in the listing and, if it is not there, sent with another key."
    )
    return text % {"key": (batch.api_key or "?")[:SHOWN], "time": format_time(batch.due_at + KEY_PATIENCE)}


def _find_workspace(name: str) -> Workspace | None:
    try:
        return get_settings().workspace(name)
    except UnknownWorkspace:
        return None


def _moment(now: datetime, seconds: float) -> datetime:
    """Return the time of ``seconds`` since the epoch; aware or naive, as ``now`` is."""
    return now + timedelta(seconds=seconds - now.timestamp())
