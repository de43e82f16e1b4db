"""Where the desk's tables and the outbox meet: each function is one transaction.

The pattern of a host: save, then enqueue, inside the same ``atomic`` block. Either both are
committed or neither is, whatever happens in between or afterwards.
"""

from __future__ import annotations

from django.db import transaction

from evermuse_outbox import outbox

from . import records
from .models import Conversation, Message

DESK_NAME = "Support desk"


def desk_address() -> str:
    """The address the desk itself writes from."""
    return f"desk@{records.own_domain()}"


@transaction.atomic
def open_conversation(*, subject: str, customer_name: str, customer_email: str, body: str) -> Conversation:
    """A new conversation with its first message, saved and enqueued.

    Raises ``ValidationError`` where a record is refused; then nothing is left behind.
    """
    conversation = Conversation.objects.create(
        subject=subject, customer_name=customer_name, customer_email=customer_email
    )
    _add_message(conversation, body, from_customer=True)
    return conversation


@transaction.atomic
def write_message(conversation_id: int, body: str, *, from_customer: bool = True) -> Message:
    """One more message, saved and enqueued, and the conversation enqueued again.

    Raises ``Conversation.DoesNotExist``, and ``ValidationError`` where a record is refused.
    """
    # Without the lock, two writers at once would each enqueue a conversation that lacks the other's
    # message, and the later version would hide it at Evermuse.
    conversation = Conversation.objects.select_for_update().get(pk=conversation_id)
    return _add_message(conversation, body, from_customer=from_customer)


def _add_message(conversation: Conversation, body: str, *, from_customer: bool) -> Message:
    message = Message.objects.create(
        conversation=conversation,
        author_name=conversation.customer_name if from_customer else DESK_NAME,
        author_email=conversation.customer_email if from_customer else desk_address(),
        from_customer=from_customer,
        body=body,
    )
    outbox.enqueue(records.message_record(message))
    outbox.enqueue(records.conversation_record(conversation))
    return message
