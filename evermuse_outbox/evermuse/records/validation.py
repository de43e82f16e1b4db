"""A record on its way out: validated, in canonical bytes, with its identity.

``validate(Record(type="email", …), contract="reference")`` gives an ``Envelope``: its ``line`` goes out as it
is, its ``identity`` is the same for every version of one record.
"""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any

from django.utils.functional import Promise

from ..errors import FieldError, InvalidRecord, RecordTooLarge, shown
from ..limits import MAX_ITEMS, MAX_RECORD_BYTES
from .identity import make_identity
from .json_values import REFUSED, Normaliser, encode, is_plain, looks_plain
from .record import CONTRACTS, Record
from .timestamps import ALLOWED as ALLOWED_MOMENT
from .timestamps import NoMoment, moment


@dataclass(frozen=True, slots=True)
class Envelope:
    """A valid record. ``line`` is its JSON without a newline, ``size`` the line's length in UTF-8 bytes."""

    type: str
    product_id: str
    identity: uuid.UUID
    line: str
    size: int
    attachments: int


def validate(record: Mapping[str, Any] | Record, *, contract: str, workspace: str = "default") -> Envelope:
    """The record as Evermuse takes it under ``contract`` (``"reference"`` or ``"openapi"``).

    Raises ``InvalidRecord`` with all that is wrong at once, ``RecordTooLarge`` where the line is longer than
    4,999,999 bytes, and ``ValueError`` for an unknown contract.
    """
    if contract not in CONTRACTS:
        raise ValueError(f"contract is {contract!r}, not one of {', '.join(CONTRACTS)}")
    given = _as_mapping(record)
    try:
        fields, line = _straight(given, contract)
    except _DOUBTS:
        fields, line = _thorough(given, contract)
    if len(line) > MAX_RECORD_BYTES:
        raise _too_large(len(line))
    return Envelope(
        type=fields["_type"],
        product_id=fields["_product_id"],
        identity=make_identity(workspace, fields["_type"], fields["_event_at"], fields["_vendor_ids"]),
        line=line.decode(),
        size=len(line),
        attachments=len(fields.get("_attachments", ())),
    )


def _as_mapping(record: Mapping[str, Any] | Record) -> Mapping[str, Any]:
    if isinstance(record, Record):
        return record.as_mapping()
    if isinstance(record, Mapping):
        return record
    raise InvalidRecord([FieldError("", "Not a record.", shown(record), "a mapping or a Record")])


# Validation goes two ways. Nearly every record is plain and valid, and the straight way takes it as it is.
# Whatever makes that way stumble, be it wrong or only unusual (lazy text, enums, None), goes the thorough way
# instead, which looks at every value with its path in hand and alone decides what is an error.


class _Unusual(Exception):
    """Not for the straight way."""


# The core's ValidationError is a ValueError, as are lone surrogates to its encoder.
_DOUBTS = (_Unusual, ValueError, TypeError, KeyError, AttributeError, RecursionError)


def _straight(given: Mapping[str, Any], contract: str) -> tuple[dict[str, Any], bytes]:
    fields = {name: value for name, value in given.items() if value is not None}
    fields["_type"] = str.lower(fields["_type"])
    fields["_event_at"] = moment(fields["_event_at"])
    fields = _checker(contract)(fields)
    if not is_plain(fields["data"]):
        fields["data"] = _normalised_data(fields["data"])
    if _across_fields(fields, contract):
        raise _Unusual
    line = encode(_with_project(fields, contract))
    if not looks_plain(line):
        raise _Unusual
    return fields, line


def _normalised_data(data: Any) -> Any:
    normaliser = Normaliser()
    plain = normaliser.value(data, (None, "data"))
    if normaliser.errors:
        raise _Unusual
    return plain


def _thorough(given: Mapping[str, Any], contract: str) -> tuple[dict[str, Any], bytes]:
    fields, errors = _normalised(given)
    refused = {error.path for error in errors}
    errors += [error for error in _field_errors(fields, contract) if error.path not in refused]
    errors += _across_fields(fields, contract)
    if errors:
        raise InvalidRecord(errors)
    fields = _checker(contract)(fields)
    return fields, encode(_with_project(fields, contract))


@cache
def _checker(contract: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    from .schema import checker  # late, for the sake of all who never validate

    return checker(contract)


def _field_errors(fields: Mapping[str, Any], contract: str) -> list[FieldError]:
    from .schema import field_errors

    return field_errors(fields, contract)


def _with_project(fields: dict[str, Any], contract: str) -> dict[str, Any]:
    """The fields with the project in the contract's form, and in the same place."""
    name, other = _PROJECT_FIELDS[contract]
    if other not in fields:
        return fields
    projects = fields.get("_project_ids") or [fields["_project_id"]]
    value = projects if contract == "openapi" else projects[0]
    converted = {}
    for key, kept in fields.items():
        if key == other:
            converted[name] = value
        else:
            converted[key] = kept
    return converted


_PROJECT_FIELDS = {
    "reference": ("_project_id", "_project_ids"),
    "openapi": ("_project_ids", "_project_id"),
}


def _normalised(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[FieldError]]:
    normaliser = Normaliser()
    rest = {name: value for name, value in given.items() if name != "_event_at"}
    fields = normaliser.value(rest)
    for name in fields.keys() - {"data", "_vendor_ids"}:
        fields[name] = _without_none(fields[name])
    fields = {name: value for name, value in fields.items() if value is not None}
    if isinstance(fields.get("_type"), str):
        fields["_type"] = fields["_type"].lower()
    errors = normaliser.errors + _tell_moment(given.get("_event_at"), fields)
    return fields, errors


def _tell_moment(value: Any, fields: dict[str, Any]) -> list[FieldError]:
    if value is None:
        return []
    fields["_event_at"] = REFUSED
    try:
        fields["_event_at"] = moment(_resolved(value))
    except NoMoment as error:
        return [FieldError("_event_at", str(error), shown(value), ALLOWED_MOMENT)]
    return []


def _resolved(value: Any) -> Any:
    plain = value.value if isinstance(value, Enum) else value
    return str(plain) if isinstance(plain, Promise) else plain


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_none(member) for name, member in value.items() if member is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


def _across_fields(fields: Mapping[str, Any], contract: str) -> list[FieldError]:
    """The rules that a table of fields cannot say; tolerant of fields that are wrong in themselves."""
    data = fields.get("data")
    errors = _too_many(fields) + _project_errors(fields, contract)
    if data is not None and data is not REFUSED and not isinstance(data, dict):
        errors.append(FieldError("data", "Not a mapping.", shown(data), "a mapping with text keys"))
    return errors


def _too_many(fields: Mapping[str, Any]) -> list[FieldError]:
    return [
        FieldError(name, "Too many.", f"{len(fields[name]):,}", f"at most {most:,}")
        for name, most in MAX_ITEMS.items()
        if name in fields and isinstance(fields[name], list) and len(fields[name]) > most
    ]


def _project_errors(fields: Mapping[str, Any], contract: str) -> list[FieldError]:
    one, several = fields.get("_project_id"), fields.get("_project_ids")
    if one is None and several is None:
        name = _PROJECT_FIELDS[contract][0]
        return [FieldError(name, "Required.", "nothing", "_project_id or _project_ids")]
    if not isinstance(several, list) or not all(isinstance(project, str) for project in several):
        return []
    if isinstance(one, str) and several != [one]:
        message = f"Not the project of _project_id ({shown(one)}): give one of the two."
        return [FieldError("_project_ids", message, shown(several), f"[{shown(one)}], or _project_ids alone")]
    if contract == "reference" and len(several) > 1:
        message = 'The contract "reference" has one project a record; "openapi" has several.'
        return [FieldError("_project_ids", message, shown(several), "one project")]
    return []


def _too_large(size: int) -> RecordTooLarge:
    message = "Too large for any request, even alone: shorten data, or send its bulk as an attachment."
    return RecordTooLarge([FieldError("", message, f"{size:,} bytes", f"at most {MAX_RECORD_BYTES:,} bytes")])
