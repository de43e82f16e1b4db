"""Explain what single API keys do, and which batches wait for one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.utils.translation import gettext as _

from ...conf import UnknownWorkspace, Workspace, get_settings
from ...database_clock import database_now
from ...delivery.context import FINGERPRINT_HEAD, fingerprint_of
from ...delivery.gates import KEY_PATIENCE
from ...models import KeyPool, OutboxBatch, OutboxWorkspace
from .times import format_time


def list_keys(name: str) -> dict[str, str]:
    """Return what people see of the keys that a workspace has now, by fingerprint; nothing if it has one key.

    It is the beginning of the fingerprint and the place in the settings, for instance ``921102ec (API_KEYS[1])``.
    """
    workspace = _find_workspace(name)
    return _show_keys(workspace) if workspace and workspace.further_keys else {}


def explain_blocked_keys(row: OutboxWorkspace) -> Iterator[str]:
    """Yield why a key of the workspace is not used, and until when. Nothing is yielded if it has one key."""
    blocks = KeyPool.of(row).blocks
    if not blocks:
        return
    now = database_now(row._state.db)
    for key, shown in list_keys(row.pk).items():
        if block := blocks.get(key):
            text = (
                _(
                    "The API key %(key)s is refused since %(since)s: %(reason)s. It is tried again at %(until)s."
                )
                if block.kind == "refused"
                else _("The API key %(key)s is throttled until %(until)s.")
            )
            yield text % {
                "key": shown,
                "since": format_time(_moment(now, block.since)),
                "until": format_time(_moment(now, block.until)),
                "reason": block.reason.rstrip("."),
            }


def explain_wait_for_key(batch: OutboxBatch) -> str:
    """Return that a batch in doubt waits for its API key; an empty text if it does not."""
    workspace = _find_workspace(batch.workspace) if batch.in_doubt else None
    if workspace is None or (batch.api_key is None and not workspace.further_keys):
        return ""
    keys = _show_keys(workspace)
    blocks = KeyPool.of(OutboxWorkspace.objects.using(batch._state.db).get(pk=batch.workspace)).blocks
    if not keys or (batch.api_key in keys and batch.api_key not in blocks):
        return ""
    text = _(
        "It was sent with the API key %(key)s, which cannot be used now. If that is still so at %(time)s, it is looked "
        "for in the listing and, if it is not there, sent with another key."
    )
    key = batch.api_key or "?"
    return text % {
        "key": keys.get(key, key[:FINGERPRINT_HEAD]),
        "time": format_time(batch.due_at + KEY_PATIENCE),
    }


def _find_workspace(name: str) -> Workspace | None:
    try:
        return get_settings().workspace(name)
    except UnknownWorkspace:
        return None


def _show_keys(workspace: Workspace) -> dict[str, str]:
    """Return what people see of the usable keys of a workspace, by fingerprint. Equal keys count once."""
    shown: dict[str, str] = {}
    for place, keyed in workspace.with_named_keys().items():
        if not keyed.problem:
            fingerprint = fingerprint_of(keyed)
            shown.setdefault(fingerprint, f"{fingerprint[:FINGERPRINT_HEAD]} ({place})")
    return shown


def _moment(now: datetime, seconds: float) -> datetime:
    """Return the time of ``seconds`` since the epoch; aware or naive, as ``now`` is."""
    return now + timedelta(seconds=seconds - now.timestamp())
