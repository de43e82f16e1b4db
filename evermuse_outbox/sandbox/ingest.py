"""From the body of a POST to records: read, held to the limits of a request, judged one by one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from .responses import VALIDATION_ERROR, Refusal, encoded
from .contract import LONE_SURROGATE, MAX_ATTACHMENTS, MAX_ERRORS_SHOWN, MAX_RECORDS, Contract
from .store import Received, RecordError

SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(frozen=True)
class Judged:
    """The records of a request, sorted: the accepted ones, and what is wrong with the others."""

    accepted: list[Received]
    rejected: int
    errors: list[RecordError]

    @property
    def first_errors(self) -> list[RecordError]:
        """As many errors as an answer may show."""
        return self.errors[:MAX_ERRORS_SHOWN]


def read_records(content_type: str, body: bytes, contract: Contract) -> list[Received]:
    """The records of a body, normalised; Refusal (400) where it cannot be read or breaks a limit."""
    reader = reader_for(content_type)
    try:
        records = reader(body, contract)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"The body cannot be read: {error}"[:2_048]) from error
    check_request(records)
    return records


def reader_for(content_type: str) -> Callable[[bytes, Contract], list[Received]]:
    """The reader of a Content-Type header; Refusal (400) for any but the two published ones."""
    media_type, *parameters = (part.strip().lower() for part in content_type.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "charset" and value.strip('"') not in ("utf-8", "utf8"):
            raise Refusal(400, "The body must be UTF-8.")
    if media_type not in READERS:
        raise Refusal(400, f"Content-Type must be {' or '.join(READERS)}, not {media_type or 'missing'}.")
    return READERS[media_type]


def read_json(body: bytes, contract: Contract) -> list[Received]:
    """The records of an application/json body."""
    records = records_within(parsed(body), contract)
    escapes = has_surrogates(body)
    return [Received(contract.normalised(record), None, escapes) for record in records]


def records_within(content: Any, contract: Contract) -> list[Any]:
    """The records of an array, of the `records` wrapper or, where the contract has it, of a single one."""
    if isinstance(content, dict) and "records" in content:
        if set(content) != {"records"} or not isinstance(content["records"], list):
            raise Refusal(400, "The wrapper is an object with one field, records, holding an array.")
        return content["records"]
    if isinstance(content, dict) and contract.takes_single_record:
        return [content]
    if not isinstance(content, list):
        raise Refusal(400, "The body is not one of the published forms.")
    return content


def read_ndjson(body: bytes, contract: Contract) -> list[Received]:
    """The records of an application/x-ndjson body: one on each line, the last newline optional."""
    lines = body.removesuffix(b"\n").split(b"\n") if body else []
    check_count(len(lines))  # before parsing, which is the costly part
    return [Received(contract.normalised(parsed(line)), line, has_surrogates(line)) for line in lines]


READERS = {"application/json": read_json, "application/x-ndjson": read_ndjson}


def parsed(body: bytes) -> Any:
    """JSON as the RFC has it; ValueError otherwise. (`json.loads` alone takes UTF-16 and NaN.)"""
    return json.loads(body.decode(), parse_constant=no_json)


def has_surrogates(body: bytes) -> bool:
    """Whether JSON text has surrogate escapes, which is rare enough to look closer then."""
    return SURROGATE_ESCAPE.search(body) is not None


def no_json(constant: str) -> NoReturn:
    """Refuse NaN and Infinity, which Python reads and JSON does not have."""
    raise ValueError(f"{constant} is not JSON")


def check_request(records: list[Received]) -> None:
    """Refusal (400) for the whole request where the records together break a limit."""
    check_count(len(records))
    check_shared("_type", records)
    check_shared("_product_id", records)
    attachments = sum(len(attachments_of(received)) for received in records)
    if attachments > MAX_ATTACHMENTS:
        raise Refusal(400, f"{attachments} attachments; a request takes {MAX_ATTACHMENTS}.")


def check_count(count: int) -> None:
    """Refusal (400) for no records, or too many."""
    if not 1 <= count <= MAX_RECORDS:
        raise Refusal(400, f"{count} records; a request takes 1 to {MAX_RECORDS}.")


def check_shared(name: str, records: list[Received]) -> None:
    """Refusal (400) where records differ in a field that all must share.

    A missing value, or one that is no text, is that record's own error and mixes nothing.
    """
    values = {received.value.get(name) for received in records if is_text_in(received.value, name)}
    if len(values) > 1:
        raise Refusal(400, f"All records of a request must share one {name}; here are {len(values)}.")


def is_text_in(value: Any, name: str) -> bool:
    """Whether a record is an object with a text in this field."""
    return isinstance(value, dict) and isinstance(value.get(name), str)


def attachments_of(received: Received) -> list[Any]:
    """The attachments of a record, valid or not."""
    found = received.value.get("_attachments") if isinstance(received.value, dict) else None
    return found if isinstance(found, list) else []


def downloads_of(records: list[Received]) -> int:
    """How many attachments of valid records Evermuse has to fetch: those with a `vendor_url`."""
    return sum("vendor_url" in item for received in records for item in attachments_of(received))


def judge(records: list[Received], contract: Contract) -> Judged:
    """Sort records into accepted ones and errors."""
    accepted: list[Received] = []
    errors: list[RecordError] = []
    for index, received in enumerate(records):
        messages = errors_of(received, contract)
        if not messages:
            accepted.append(received)
        errors += [{"index": index, "code": VALIDATION_ERROR, "message": message} for message in messages]
    return Judged(accepted, len(records) - len(accepted), errors)


def errors_of(received: Received, contract: Contract) -> list[str]:
    """Everything wrong with a record, down to text within `data`, where no schema looks."""
    messages = contract.errors(received.value)
    if not messages and received.has_surrogates and not is_unicode(received.value):
        return [LONE_SURROGATE]
    return messages


def is_unicode(value: Any) -> bool:
    """Whether all text within a JSON value can be written as UTF-8."""
    try:
        encoded(value)
    except UnicodeEncodeError:
        return False
    return True
