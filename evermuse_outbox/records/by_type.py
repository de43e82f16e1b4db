"""One function for each ``_type``: its named arguments become ``data`` and ``_vendor_ids``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NotRequired, Required, TypedDict, Unpack

from ..evermuse.records import (
    Attachment,
    Nature,
    Participant,
    Pii,
    Record,
    RecordType,
    Texts,
    UploadedAttachment,
)


class ThreadEnvelope(TypedDict, total=False):
    """The arguments of :class:`Envelope` without ``thread_id``, for a record that is a thread."""

    event_at: Required[datetime | str]
    product_id: Required[str]
    project_id: str | None
    project_ids: Texts | None
    nature: Nature | None
    participants: Sequence[Participant]
    attachments: Sequence[Attachment | UploadedAttachment]
    tags: Texts
    pii: Pii | None
    vendor_ids: Mapping[str, str]
    data: Mapping[str, Any]


class Envelope(ThreadEnvelope, total=False):
    """The arguments that each function of this module takes, beside those of its type.

    Give the project as ``project_id`` or as ``project_ids``. ``vendor_ids`` are more ids of the source, beside the
    first argument. ``data`` has more fields for ``data``. The others are those of :class:`Record`.
    """

    thread_id: str | None


class Turn(TypedDict):
    """What a participant writes or says in a conversation. ``sent_at`` is a time or text."""

    sender: str
    text: str
    sent_at: NotRequired[datetime | str]


def Email(  # noqa: N802 - like a class, because it creates a record
    *,
    message_id: str,
    subject: str | None = None,
    sender: str | None = None,
    to: str | Sequence[str] | None = None,
    body: str | None = None,
    **envelope: Unpack[Envelope],
) -> Record:
    """Return the record of a single mail.

    Args:
        message_id: The id in your system, such as the header ``Message-ID``; ``message_id`` of ``_vendor_ids``.
        subject: The subject.
        sender: The address of the sender; ``from`` of ``data``.
        to: The addresses of the recipients.
        body: The text of the mail.
        envelope: See :class:`Envelope`.
    """
    content = {"subject": subject, "from": sender, "to": to, "body": body}
    return _record("email", {"message_id": message_id}, content, envelope)


def EmailThread(  # noqa: N802
    *,
    thread_id: str,
    messages: Sequence[Mapping[str, Any]],
    subject: str | None = None,
    **envelope: Unpack[ThreadEnvelope],
) -> Record:
    """Return the record of a chain of mails.

    Args:
        thread_id: The id in your system; ``thread_id`` of ``_vendor_ids``, and ``_thread_id``.
        messages: The mails, such as ``{"from": …, "to": …, "body": …}``, the oldest first.
        subject: The subject of the chain.
        envelope: See :class:`Envelope`.
    """
    content = {"subject": subject, "messages": list(messages)}
    return _record("email_thread", {"thread_id": thread_id}, content, {**envelope, "thread_id": thread_id})


def Call(  # noqa: N802
    *,
    call_id: str,
    title: str | None = None,
    duration_seconds: float | None = None,
    recording_url: str | None = None,
    recording_type: Literal["audio", "video"] = "audio",
    **envelope: Unpack[Envelope],
) -> Record:
    """Return the record of a call with its recording.

    Args:
        call_id: The id in your system; ``call_id`` of ``_vendor_ids``.
        title: The title.
        duration_seconds: The duration in seconds.
        recording_url: Where Evermuse downloads the recording; it becomes the first attachment.
        recording_type: Whether the recording is audio or video.
        envelope: See :class:`Envelope`.
    """
    content = {"title": title, "duration_seconds": duration_seconds}
    return _record("call", {"call_id": call_id}, content, _with_file(envelope, recording_type, recording_url))


def CallTranscription(  # noqa: N802
    *,
    call_id: str,
    text: str | None = None,
    turns: Sequence[Turn] | None = None,
    title: str | None = None,
    duration_seconds: float | None = None,
    **envelope: Unpack[Envelope],
) -> Record:
    """Return the record of the words of a call.

    Args:
        call_id: The id of the call in your system; ``call_id`` of ``_vendor_ids``.
        text: The transcript as text.
        turns: The transcript by speaker, in order; ``messages`` of ``data``.
        title: The title of the call.
        duration_seconds: The duration in seconds.
        envelope: See :class:`Envelope`.
    """
    content = {"title": title, "duration_seconds": duration_seconds, "text": text, "messages": turns}
    return _record("call_transcription", {"call_id": call_id}, content, envelope)


def MeetingNotes(  # noqa: N802
    *,
    meeting_id: str,
    title: str | None = None,
    body: str | None = None,
    duration_minutes: float | None = None,
    **envelope: Unpack[Envelope],
) -> Record:
    """Return the record of notes, a summary or a transcript of a meeting.

    Args:
        meeting_id: The id in your system; ``meeting_id`` of ``_vendor_ids``.
        title: The title.
        body: The text of the notes.
        duration_minutes: The duration in minutes.
        envelope: See :class:`Envelope`.
    """
    content = {"title": title, "body": body, "duration_minutes": duration_minutes}
    return _record("meeting_notes", {"meeting_id": meeting_id}, content, envelope)


def Conversation(  # noqa: N802
    *,
    conversation_id: str,
    messages: Sequence[Turn],
    subject: str | None = None,
    **envelope: Unpack[Envelope],
) -> Record:
    """Return the record of a chat or a support ticket.

    Args:
        conversation_id: The id in your system; ``conversation_id`` of ``_vendor_ids``.
        messages: The messages, the oldest first.
        subject: The subject.
        envelope: See :class:`Envelope`.
    """
    content = {"subject": subject, "messages": list(messages)}
    return _record("conversation", {"conversation_id": conversation_id}, content, envelope)


def Message(  # noqa: N802
    *,
    message_id: str,
    text: str,
    sender: str | None = None,
    **envelope: Unpack[Envelope],
) -> Record:
    """Return the record of a single message, such as an SMS or feedback in an app.

    Args:
        message_id: The id in your system; ``message_id`` of ``_vendor_ids``.
        text: The text.
        sender: The sender, in any form.
        envelope: See :class:`Envelope`.
    """
    return _record("message", {"message_id": message_id}, {"sender": sender, "text": text}, envelope)


def Document(  # noqa: N802
    *,
    document_id: str,
    title: str | None = None,
    body: str | None = None,
    file_url: str | None = None,
    **envelope: Unpack[Envelope],
) -> Record:
    """Return the record of a written document. Only the contract "openapi" has this type.

    Args:
        document_id: The id in your system; ``document_id`` of ``_vendor_ids``.
        title: The title.
        body: The text.
        file_url: Where Evermuse downloads the file; it becomes the first attachment.
        envelope: See :class:`Envelope`.
    """
    content = {"title": title, "body": body}
    return _record("document", {"document_id": document_id}, content, _with_file(envelope, "file", file_url))


def Spreadsheet(  # noqa: N802
    *,
    spreadsheet_id: str,
    title: str | None = None,
    columns: Sequence[str] | None = None,
    rows: Sequence[Sequence[Any]] | None = None,
    file_url: str | None = None,
    **envelope: Unpack[Envelope],
) -> Record:
    """Return the record of a table or a file with tables. Only the contract "openapi" has this type.

    Args:
        spreadsheet_id: The id in your system; ``spreadsheet_id`` of ``_vendor_ids``.
        title: The title.
        columns: The names of the columns.
        rows: The values, row by row.
        file_url: Where Evermuse downloads the file; it becomes the first attachment.
        envelope: See :class:`Envelope`.
    """
    content = {"title": title, "columns": columns, "rows": rows}
    ids = {"spreadsheet_id": spreadsheet_id}
    return _record("spreadsheet", ids, content, _with_file(envelope, "file", file_url))


def _with_file(
    envelope: Mapping[str, Any], kind: Literal["audio", "video", "file"], url: str | None
) -> Mapping[str, Any]:
    if url is None:
        return envelope
    file: Attachment = {"type": kind, "vendor_url": url}
    return {**envelope, "attachments": [file, *envelope.get("attachments", ())]}


def _record(
    record_type: RecordType, ids: dict[str, str], content: Mapping[str, Any], envelope: Mapping[str, Any]
) -> Record:
    fields = {name: value for name, value in content.items() if value is not None}
    rest = {name: value for name, value in envelope.items() if name not in ("data", "vendor_ids")}
    return Record(
        type=record_type,
        vendor_ids=_merge("vendor_ids", ids, envelope.get("vendor_ids")),
        data=_merge("data", fields, envelope.get("data")),
        **rest,
    )


def _merge(name: str, named: dict[str, Any], more: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return both mappings as one.

    Raises:
        TypeError: A key is in both, as for an argument that a caller gives twice.
    """
    repeated = sorted(named.keys() & (more or {}).keys())
    if repeated:
        raise TypeError(f"{name} repeats {', '.join(repeated)}, which is an argument already")
    return {**named, **(more or {})}
