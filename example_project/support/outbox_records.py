"""How the tables of the support desk become records. The outbox imports this module at start-up.

From then on, to save a message or a conversation also enqueues its record, in the same transaction.
"""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from evermuse_outbox.model_records import ModelRecord, record_of

from . import records
from .models import Conversation, Message


@record_of(Conversation)
class ConversationRecord(ModelRecord[Conversation]):
    """A conversation becomes a record with its messages.

    Its record changes if a message is added, not if its row is saved. So no save enqueues it, but ``desk.py`` does.
    """

    on = ()

    def record(self, instance: Conversation) -> dict[str, Any]:
        """Return the record of a conversation."""
        return records.conversation_record(instance)

    def queryset(self) -> QuerySet[Conversation]:
        """Return all conversations, with their messages."""
        return Conversation.objects.prefetch_related("messages")


@record_of(Message)
class MessageRecord(ModelRecord[Message]):
    """A message becomes a record when it is written. Messages are never changed."""

    on = ("create",)

    def record(self, instance: Message) -> dict[str, Any]:
        """Return the record of a message."""
        return records.message_record(instance)

    def queryset(self) -> QuerySet[Message]:
        """Return all messages, with their conversations for the subject."""
        return Message.objects.select_related("conversation")
