"""The content of a POST: check its headers, parse its body, check the limits of a request, validate each record."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any, Literal, NoReturn

from .contract import (
    FORMATS,
    LONE_SURROGATE,
    MAX_ATTACHMENTS,
    MAX_ERRORS_SHOWN,
    MAX_IDEMPOTENCY_KEY,
    MAX_MESSAGE,
    MAX_RECORDS,
    Contract,
)
from .responses import VALIDATION_ERROR, RequestRefused, encode_json
from .store import ReceivedRecord, RecordError

ErrorPlacement = Literal["details", "errors", "nowhere"]
"""Field of an error response that contains the errors of invalid records. ``"nowhere"`` omits the errors."""

SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
"""Start of a JSON escape from ``\\uD800`` to ``\\uDFFF``: half of a surrogate pair."""


# --- Headers ------------------------------------------------------------------------------------


def check_headers(headers: Message[str, str], query: list[tuple[str, str]]) -> None:
    """Check the headers and the query of a POST.

    Raises:
        RequestRefused: 400, if a value is not allowed.
    """
    if len(headers.get("Idempotency-Key", "")) > MAX_IDEMPOTENCY_KEY:
        raise RequestRefused(400, f"Idempotency-Key takes at most {MAX_IDEMPOTENCY_KEY} characters.")
    # The contract documents no compression of request bodies.
    if headers.get("Content-Encoding", "identity") != "identity":
        raise RequestRefused(400, "The body must not be compressed.")
    for name, value in query:
        if name == "format" and value not in FORMATS:
            raise RequestRefused(400, f"format must be one of {', '.join(sorted(FORMATS))}.")


# --- Parsing ------------------------------------------------------------------------------------


def read_records(content_type: str, body: bytes, contract: Contract) -> list[ReceivedRecord]:
    """Return the normalised records of a body that is within the limits of a request.

    Raises:
        RequestRefused: 400, if the body cannot be parsed or breaks a limit.
    """
    parse = choose_parser(content_type)
    try:
        records = parse(body, contract)
    except (ValueError, RecursionError) as error:
        raise RequestRefused(400, f"The body cannot be read: {error}"[:MAX_MESSAGE]) from error
    check_limits(records)
    return records


def choose_parser(content_type: str) -> Callable[[bytes, Contract], list[ReceivedRecord]]:
    """Return the parser for a Content-Type header.

    Raises:
        RequestRefused: 400, if it is not one of the two published types, or the charset is not UTF-8.
    """
    media_type, *parameters = (part.strip().lower() for part in content_type.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "charset" and value.strip('"') not in ("utf-8", "utf8"):
            raise RequestRefused(400, "The body must be UTF-8.")
    if media_type not in PARSERS:
        expected = " or ".join(PARSERS)
        raise RequestRefused(400, f"Content-Type must be {expected}, not {media_type or 'missing'}.")
    return PARSERS[media_type]


def parse_json_body(body: bytes, contract: Contract) -> list[ReceivedRecord]:
    """Return the records of an ``application/json`` body."""
    records = unwrap_records(parse_json(body), contract)
    has_surrogates = has_surrogate_escapes(body)
    return [ReceivedRecord(contract.normalise(record), None, has_surrogates) for record in records]


def unwrap_records(content: Any, contract: Contract) -> list[Any]:
    """Return the records of an array, of a ``records`` wrapper or, if the contract allows it, of a single record.

    Raises:
        RequestRefused: 400, if the content has another form.
    """
    if isinstance(content, dict) and "records" in content:
        if set(content) != {"records"} or not isinstance(content["records"], list):
            raise RequestRefused(
                400, "The wrapper must be an object with one field, records, and an array in it."
            )
        return content["records"]
    if isinstance(content, dict) and contract.takes_single_record:
        return [content]
    if not isinstance(content, list):
        raise RequestRefused(400, "The body has none of the published forms.")
    return content


def parse_ndjson_body(body: bytes, contract: Contract) -> list[ReceivedRecord]:
    """Return the records of an ``application/x-ndjson`` body: one per line, with an optional last newline."""
    lines = body.removesuffix(b"\n").split(b"\n") if body else []
    check_record_count(len(lines))  # before the lines are parsed, because parsing is expensive
    return [
        ReceivedRecord(contract.normalise(parse_json(line)), line, has_surrogate_escapes(line))
        for line in lines
    ]


PARSERS = {"application/json": parse_json_body, "application/x-ndjson": parse_ndjson_body}


def parse_json(text: bytes) -> Any:
    """Parse JSON strictly as RFC 8259 defines it. ``json.loads`` alone would also accept UTF-16 and NaN.

    Raises:
        ValueError: It is not JSON in UTF-8.
    """
    return json.loads(text.decode(), parse_constant=refuse_constant)


def refuse_constant(constant: str) -> NoReturn:
    """Refuse NaN and Infinity, which Python accepts and JSON does not have."""
    raise ValueError(f"{constant} is not JSON")


def has_surrogate_escapes(text: bytes) -> bool:
    """Return whether JSON contains escapes of surrogates. Only the few records with them need a further check."""
    return SURROGATE_ESCAPE.search(text) is not None


# --- Limits of a request ------------------------------------------------------------------------


def check_limits(records: list[ReceivedRecord]) -> None:
    """Check the limits that apply to all records of a request together.

    Raises:
        RequestRefused: 400, if the records break a limit.
    """
    check_record_count(len(records))
    check_single_value("_type", records)
    check_single_value("_product_id", records)
    attachments = sum(len(attachments_of(received)) for received in records)
    if attachments > MAX_ATTACHMENTS:
        raise RequestRefused(400, f"{attachments} attachments; a request takes {MAX_ATTACHMENTS}.")


def check_record_count(count: int) -> None:
    """Refuse a request (400) without records or with too many."""
    if not 1 <= count <= MAX_RECORDS:
        raise RequestRefused(400, f"{count} records; a request takes 1 to {MAX_RECORDS}.")


def check_single_value(name: str, records: list[ReceivedRecord]) -> None:
    """Refuse a request (400) if its records have different values in the field ``name``.

    A record without a string in that field is ignored here. The validation of each record rejects it later.
    """
    values = {received.value.get(name) for received in records if has_string(received.value, name)}
    if len(values) > 1:
        raise RequestRefused(400, f"All records of a request must share one {name}; here are {len(values)}.")


def has_string(value: Any, name: str) -> bool:
    """Return whether a value is an object with a string in the field ``name``."""
    return isinstance(value, dict) and isinstance(value.get(name), str)


def shared_value(name: str, records: list[ReceivedRecord]) -> str:
    """Return the text in a field that the records share, or an empty text if no record has one."""
    values = (received.value[name] for received in records if has_string(received.value, name))
    return next(values, "")


def attachments_of(received: ReceivedRecord) -> list[Any]:
    """Return the attachments of a record, valid or not."""
    attachments = received.value.get("_attachments") if isinstance(received.value, dict) else None
    return attachments if isinstance(attachments, list) else []


def count_downloads(records: list[ReceivedRecord]) -> int:
    """Return the number of attachments that Evermuse downloads: those of valid records with a ``vendor_url``."""
    return sum("vendor_url" in item for received in records for item in attachments_of(received))


# --- Validation of each record ------------------------------------------------------------------


@dataclass(frozen=True)
class ValidationResult:
    """The accepted records of a request, the number of rejected ones, and all their errors."""

    accepted: list[ReceivedRecord]
    rejected: int
    errors: list[RecordError]

    @property
    def first_errors(self) -> list[RecordError]:
        """The first errors, at most as many as a response may contain."""
        return self.errors[:MAX_ERRORS_SHOWN]

    def refusal(self, errors_in: ErrorPlacement) -> RequestRefused:
        """Return the refusal (400) of a request with invalid records. None of its records is accepted.

        The text of the OpenAPI document puts the errors into ``errors``. Its schema allows them only in ``details``.
        """
        extra: dict[str, Any] = {}
        if errors_in == "errors":
            extra = {"errors": self.first_errors}
        elif errors_in == "details":
            counts = {"rejectedCount": self.rejected, "totalErrorCount": len(self.errors)}
            extra = {"details": {**counts, "errors": self.first_errors}}
        message = f"{self.rejected} of {self.rejected + len(self.accepted)} records are not valid."
        return RequestRefused(400, message, error=VALIDATION_ERROR, extra=extra)


def validate_records(
    records: list[ReceivedRecord], contract: Contract, injected: Mapping[int, list[RecordError]] | None = None
) -> ValidationResult:
    """Validate each record of a request against the contract.

    Args:
        records: The records of the request.
        contract: The contract.
        injected: Further errors of records, by position. They come from faults.
    """
    accepted: list[ReceivedRecord] = []
    errors: list[RecordError] = []
    for index, received in enumerate(records):
        problems = [record_error(index, message) for message in validate_record(received, contract)]
        problems += (injected or {}).get(index, [])
        if not problems:
            accepted.append(received)
        errors += problems
    return ValidationResult(accepted, len(records) - len(accepted), errors)


def record_error(index: int, message: str, code: str = VALIDATION_ERROR) -> RecordError:
    """Return the published error of the record at a position of a request."""
    return {"index": index, "code": code, "message": message[:MAX_MESSAGE]}


def validate_record(received: ReceivedRecord, contract: Contract) -> list[str]:
    """Return every error of a record, including lone surrogates in ``data``, which the schema does not check."""
    messages = contract.errors(received.value)
    if not messages and received.has_surrogates and not is_unicode(received.value):
        return [LONE_SURROGATE]
    return messages


def is_unicode(value: Any) -> bool:
    """Return whether every string in a JSON value can be encoded as UTF-8."""
    try:
        encode_json(value)
    except UnicodeEncodeError:
        return False
    return True
