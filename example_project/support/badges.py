"""Outbox states of messages, for the badges on a conversation page."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from evermuse_outbox.conf import DEFAULT_WORKSPACE
from evermuse_outbox.evermuse.records import make_identity
from evermuse_outbox.models import OutboxRecord

from . import records
from .models import Message


def add_outbox_states(messages: Iterable[Message]) -> list[Message]:
    """Set ``outbox_state`` on each message and return the messages as a list.

    The state is a word such as "pending". It is empty if the record has been purged. The states are read with
    one indexed query.
    """
    messages = list(messages)
    states = _states([_identity(message) for message in messages])
    for message in messages:
        message.outbox_state = states.get(_identity(message), "")  # type: ignore[attr-defined]
    return messages


def _identity(message: Message) -> UUID:
    event_at, ids = records.utc_text(message.sent_at), records.message_ids(message)
    return make_identity(DEFAULT_WORKSPACE, "message", event_at, ids)


def _states(identities: list[UUID]) -> dict[UUID, str]:
    rows = OutboxRecord.objects.filter(identity__in=identities).only("identity", "closed_as", "batch")
    # In the order of the primary key, so that the newest version of a record wins.
    return {row.identity: row.get_state_display() for row in rows.order_by("pk")}
