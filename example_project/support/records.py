"""Build Evermuse records from the messages, conversations and mails of the support desk."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings

from evermuse_outbox.records import is_email

from .headers import Contact
from .models import Conversation, Message
from .text import within

if TYPE_CHECKING:
    from .mail import Mail  # it needs an HTML parser, which only the import of mails needs

# Limits of Evermuse, in items and characters (OpenAPI document, schemas IngestRecord and Participant).
PARTICIPANTS, PARTICIPANT_LENGTH, TAG_LENGTH = 5_000, 256, 64
# Limits of this project, in bytes of JSON. With a mail body of at most 4.3 MB they keep every record below
# 5,000,000 bytes, the limit of a request.
PARTICIPANTS_JSON, FILES_JSON, ADDRESSES_JSON = 250_000, 150_000, 100_000
TRANSCRIPT_JSON = 4_500_000

TYPE_OF_ROLE = {"internal": "user", "external": "contact", "unknown": "unknown"}


def message_record(message: Message) -> dict[str, Any]:
    """Return the record of a message."""
    return _envelope("message", message.sent_at, message_ids(message)) | {
        "_thread_id": f"conversation-{message.conversation_id}",
        "_participants": _participants([_author(message)]),
        "data": {"subject": message.conversation.subject, **_transcript_entry(message)},
    }


def message_ids(message: Message) -> dict[str, str]:
    """Return the ``_vendor_ids`` of a message."""
    return {"message_id": str(message.pk)}


def conversation_record(conversation: Conversation) -> dict[str, Any]:
    """Return the record of a conversation with its messages so far.

    All versions of a conversation have the same identity, so each one replaces the previous one in
    Evermuse. If the messages are too long together, the oldest ones are left out.
    """
    messages = list(conversation.messages.all())
    entries = within([_transcript_entry(message) for message in reversed(messages)], TRANSCRIPT_JSON)[::-1]
    shortened = {"truncated": True} if len(entries) < len(messages) else {}
    return _envelope("conversation", conversation.opened_at, {"conversation_id": str(conversation.pk)}) | {
        "_thread_id": f"conversation-{conversation.pk}",
        "_participants": _participants([_customer(conversation), *map(_author, messages)]),
        "data": {"subject": conversation.subject, "messages": entries, **shortened},
    }


def email_record(mail: Mail) -> dict[str, Any]:
    """Return the record of an imported mail.

    Attachments are listed in ``data`` and not in ``_attachments``, because they have no URL. The identity contains a
    digest of the content, because there are different mails with the same Message-ID.
    """
    people = list(_people(mail))
    participants = _participants(people)
    is_crowd_cut = len(participants) < len({contact.address.lower() for contact, _ in people})
    record = _envelope(
        "email", mail.sent_at, {"message_id": mail.message_id, "content_sha256": mail.digest}
    ) | {
        "_thread_id": mail.thread_id,
        "_participants": participants,
        "data": _email_data(mail, ["participants"] if is_crowd_cut else []),
    }
    return record | ({"_tags": [mail.list_id[:TAG_LENGTH]]} if mail.list_id else {})


def _envelope(type_: str, event_at: datetime, vendor_ids: dict[str, str]) -> dict[str, Any]:
    return {
        "_type": type_,
        "_schema_version": "1.0.0",
        "_event_at": utc_text(event_at),
        "_vendor_ids": vendor_ids,
        "_product_id": settings.EVERMUSE_PRODUCT_ID,
        "_project_id": settings.EVERMUSE_PROJECT_ID,
        "_nature": "evidence",
    }


def utc_text(moment: datetime) -> str:
    """Return an aware datetime in the format of Evermuse: UTC, whole seconds, ``Z`` at the end."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _transcript_entry(message: Message) -> dict[str, Any]:
    return {
        "sender": "customer" if message.from_customer else "agent",
        "name": message.author_name,
        "text": message.body,
        "sent_at": utc_text(message.sent_at),
    }


def _email_data(mail: Mail, shortened: list[str]) -> dict[str, Any]:
    files = [{"filename": f.filename, "mime_type": f.mime_type, "size": f.size} for f in mail.files]
    lists = {
        "to": ([contact.address for contact in mail.to], ADDRESSES_JSON),
        "cc": ([contact.address for contact in mail.cc], ADDRESSES_JSON),
        "attachments": (files, FILES_JSON),
    }
    kept = {name: within(items, limit) for name, (items, limit) in lists.items()}
    shortened = [
        *mail.shortened,
        *(name for name in lists if len(kept[name]) < len(lists[name][0])),
        *shortened,
    ]
    return {
        "subject": mail.subject,
        "from": mail.sender,
        **kept,
        "body": mail.body,
        "in_reply_to": mail.in_reply_to or None,
        **_marks(mail, shortened),
    }


def _marks(mail: Mail, shortened: list[str]) -> dict[str, Any]:
    """Return what a reader must know before trusting the record: each mark is there only if it applies."""
    marks = {
        "truncated": mail.truncated,
        "shortened": shortened,
        "date_guessed_from": mail.date_guess,
        "date_zone_assumed": "UTC" if mail.is_zone_assumed else "",
    }
    return {name: mark for name, mark in marks.items() if mark}


# --- participants ----------------------------------------------------------------------------------

Person = tuple[Contact, str]  # the contact and its role


def _customer(conversation: Conversation) -> Person:
    return Contact(conversation.customer_name, conversation.customer_email), "external"


def _author(message: Message) -> Person:
    return Contact(message.author_name, message.author_email), (
        "external" if message.from_customer else "internal"
    )


def _people(mail: Mail) -> Iterable[Person]:
    for contact in mail.senders:
        yield contact, "internal" if _is_at_desk(contact) else "external"
    for contact in (*mail.to, *mail.cc):
        yield contact, "internal" if _is_at_desk(contact) else "unknown"


def desk_domain() -> str:
    """Return the mail domain of the desk, from the setting ``SUPPORT_DOMAIN``."""
    return getattr(settings, "SUPPORT_DOMAIN", "support.example.com").lower()


def _is_at_desk(contact: Contact) -> bool:
    return contact.address.rpartition("@")[2].lower() == desk_domain()


def _participants(people: Iterable[Person]) -> list[dict[str, str]]:
    """Return the participants without duplicates. If a person has several roles, the first one counts."""
    participants: dict[str, dict[str, str]] = {}
    for contact, role in people:
        participant = _participant(contact, role)
        participants.setdefault(participant["id"], participant)
    return within(list(participants.values())[:PARTICIPANTS], PARTICIPANTS_JSON)


def _participant(contact: Contact, role: str) -> dict[str, str]:
    participant = {
        "id": contact.address.lower()[:PARTICIPANT_LENGTH],
        "name": contact.name[:PARTICIPANT_LENGTH],
        "email": contact.address if is_email(contact.address) else "",
        "role": role,
        "type": TYPE_OF_ROLE[role],
    }
    return {name: value for name, value in participant.items() if value}
