"""Where the records of some messages are: one query over an index, for the badges on a page."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from evermuse_outbox.conf import DEFAULT_WORKSPACE
from evermuse_outbox.evermuse.records.validation import identity
from evermuse_outbox.models import OutboxRecord

from . import records
from .models import Message


def with_states(messages: Iterable[Message]) -> list[Message]:
    """The messages, each with ``outbox_state``: the state in words, empty once the record is purged."""
    found = list(messages)
    states = _states([_identity(message) for message in found])
    for message in found:
        message.outbox_state = states.get(_identity(message), "")  # type: ignore[attr-defined]
    return found


def _identity(message: Message) -> UUID:
    event_at, ids = records.utc_text(message.sent_at), records.message_ids(message)
    return identity(DEFAULT_WORKSPACE, "message", event_at, ids)


def _states(identities: list[UUID]) -> dict[UUID, str]:
    rows = OutboxRecord.objects.filter(identity__in=identities).only("identity", "closed_as", "batch")
    return {row.identity: row.get_state_display() for row in rows.order_by("pk")}
