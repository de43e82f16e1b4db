"""Records with type hints: one function for each ``_type``, the types of the fields, and checks of single values.

::

    from evermuse_outbox import outbox
    from evermuse_outbox.records import Email

    outbox.enqueue(
        Email(
            message_id="msg-1",
            event_at=mail.sent_at,
            product_id="prod-abc",
            project_id="proj-123",
            subject=mail.subject,
            body=mail.text,
        )
    )

Each function returns a :class:`Record`. Its named arguments become ``data`` and ``_vendor_ids``, under the names that
Evermuse's examples use. The other arguments are those of :class:`Envelope`. None is not sent. ``enqueue`` checks the
values, so that an error names each wrong field.

This package must not use the database or the settings. Its interface is in ``__all__``.
"""

from ..evermuse import formats
from ..evermuse.records import (
    AnyRecord,
    Attachment,
    Nature,
    Participant,
    Pii,
    PiiEntity,
    Record,
    RecordFields,
    RecordType,
    UploadedAttachment,
)
from .by_type import (
    Call,
    CallTranscription,
    Conversation,
    Document,
    Email,
    EmailThread,
    Envelope,
    MeetingNotes,
    Message,
    Spreadsheet,
    ThreadEnvelope,
    Turn,
)

__all__ = [
    "AnyRecord",
    "Attachment",
    "Call",
    "CallTranscription",
    "Conversation",
    "Document",
    "Email",
    "EmailThread",
    "Envelope",
    "MeetingNotes",
    "Message",
    "Nature",
    "Participant",
    "Pii",
    "PiiEntity",
    "Record",
    "RecordFields",
    "RecordType",
    "Spreadsheet",
    "ThreadEnvelope",
    "Turn",
    "UploadedAttachment",
    "is_email",
    "is_number",
    "is_uri",
]

is_email = formats.is_email
is_number = formats.is_number
is_uri = formats.is_uri
