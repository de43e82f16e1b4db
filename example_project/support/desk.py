"""Actions of the support desk. Each one saves its rows and enqueues their records in one transaction.

This is the pattern for a project that uses the outbox: save, then enqueue, inside the same ``atomic``
block. Both are committed or neither is, also if the process crashes. For messages, the save itself enqueues;
``outbox_records.py`` declares how.
"""

from __future__ import annotations

from django.db import transaction

from evermuse_outbox import outbox
from evermuse_outbox.model_records import record_for

from . import records
from .models import Conversation, Message

DESK_NAME = "Support desk"


def desk_address() -> str:
    """Return the mail address that the desk answers from."""
    return f"desk@{records.desk_domain()}"


@transaction.atomic
def open_conversation(*, subject: str, customer_name: str, customer_email: str, body: str) -> Conversation:
    """Save and enqueue a new conversation with its first message.

    Raises ``ValidationError`` if the outbox refuses a record. Nothing is saved then.
    """
    conversation = Conversation.objects.create(
        subject=subject, customer_name=customer_name, customer_email=customer_email
    )
    _add_message(conversation, body, from_customer=True)
    return conversation


@transaction.atomic
def write_message(conversation_id: int, body: str, *, from_customer: bool = True) -> Message:
    """Save and enqueue a message, and enqueue a new version of its conversation.

    Raises ``Conversation.DoesNotExist`` if there is no such conversation, and ``ValidationError`` if the
    outbox refuses a record. Nothing is saved then.
    """
    # Lock the conversation. Without the lock, two concurrent writers would each enqueue a version that
    # lacks the other one's message, and the later version would replace the earlier one in Evermuse.
    conversation = Conversation.objects.select_for_update().get(pk=conversation_id)
    return _add_message(conversation, body, from_customer=from_customer)


def _add_message(conversation: Conversation, body: str, *, from_customer: bool) -> Message:
    message = Message.objects.create(
        conversation=conversation,
        author_name=conversation.customer_name if from_customer else DESK_NAME,
        author_email=conversation.customer_email if from_customer else desk_address(),
        from_customer=from_customer,
        body=body,
    )  # its record is enqueued by the save; see outbox_records.py
    outbox.enqueue(record_for(conversation))
    return message
