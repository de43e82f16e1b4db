"""Validation of a record, and its conversion to the exact bytes that go to Evermuse.

There are two paths, and both give the same bytes. Nearly every record is valid and has only JSON's types, so the fast
path takes it unchanged. All other records go through the full check: invalid ones, and those with values that must be
converted, such as lazy text. The full check visits each value with its path, and only it decides what is an error.
Without the fast path, each record would cost several times the CPU time.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from itertools import islice
from typing import Any

from django.utils.functional import Promise

from ...foreign_text import show_value, type_name
from .. import FieldError, InvalidRecord, RecordTooLarge, advice, limits
from . import timestamps
from .checksum import make_checksum
from .identity import make_identity
from .json_values import (
    REFUSED,
    ErrorList,
    Normaliser,
    TooLarge,
    TooManyErrors,
    encode,
    is_plain,
    looks_plain,
)
from .record import CONTRACTS, AnyRecord, Record
from .timestamps import InvalidTimestamp, to_utc_timestamp


@dataclass(slots=True)
class Envelope:
    """A valid record. ``line`` is its JSON without a newline, and ``size`` the length of the line in UTF-8 bytes.

    ``attachments`` is the number of its attachments. ``identity`` is the same for every version of one record, and
    ``checksum`` is that of :func:`~.checksum.make_checksum`.
    """

    type: str
    product_id: str
    identity: uuid.UUID
    line: str = field(repr=False)
    size: int
    attachments: int
    checksum: int


def validate(record: AnyRecord, *, contract: str, workspace: str = "default") -> Envelope:
    """Validate a record and return it in the form of a contract.

    Args:
        record: a mapping with the names of Evermuse (``_type`` … ``data``), or a :class:`~.record.Record`.
        contract: ``"reference"`` or ``"openapi"``, the two published descriptions of the API.
        workspace: the name of the workspace; it is part of the identity.

    Raises:
        InvalidRecord: the record has errors; the exception names the first 100 of them.
        RecordTooLarge: the line is longer than 4,999,999 bytes, so it fits no request.
        ValueError: the contract is unknown.
    """
    if contract not in CONTRACTS:
        raise ValueError(f"contract is {contract!r}, not one of {', '.join(CONTRACTS)}")
    try:
        fields, line = _check(_as_mapping(record), contract)
        if len(line) > limits.MAX_RECORD_BYTES:
            raise _too_large(f"{len(line):,} bytes")
        return _envelope(fields, line, workspace)
    except (InvalidRecord, MemoryError):
        raise
    except Exception as error:
        # A class of the host may raise anything when it is read. The host gets the only error that is documented.
        message = f"It cannot be read, because this raises {type_name(error)}."
        raise InvalidRecord([FieldError("", message, show_value(record), "a mapping or a Record")]) from error


def _check(given: Mapping[str, Any], contract: str) -> tuple[dict[str, Any], bytes]:
    try:
        return _fast_path(given, contract)
    except MemoryError:
        raise
    except Exception:  # noqa: S110 - also the exceptions of pydantic's core, and those of the classes of the host
        pass
    # Not above, because the error of the fast path would then stay in memory with its values.
    return _full_check(given, contract)


def _envelope(fields: dict[str, Any], line: bytes, workspace: str) -> Envelope:
    return Envelope(
        type=fields["_type"],
        product_id=fields["_product_id"],
        identity=make_identity(workspace, fields["_type"], fields["_event_at"], fields["_vendor_ids"]),
        line=line.decode(),
        size=len(line),
        attachments=len(fields.get("_attachments", ())),
        checksum=make_checksum(line, workspace, fields["_type"], fields["_product_id"]),
    )


def _as_mapping(record: AnyRecord) -> Mapping[str, Any]:
    if type(record) is dict:  # the usual case; the check of `Mapping` takes as long as that of all texts
        return record
    if isinstance(record, Record):
        return record.as_mapping()
    if isinstance(record, Mapping):
        return record
    from .schema import rules

    message = advice.describe_non_record(record, rules(CONTRACTS[0]).members)
    raise InvalidRecord([FieldError("", message, show_value(record), "a mapping or a Record")])


class _Unusual(Exception):
    """The fast path cannot handle the record."""


def _fast_path(given: Mapping[str, Any], contract: str) -> tuple[dict[str, Any], bytes]:
    fields = {name: value for name, value in islice(given.items(), _MANY) if value is not None}
    if not _is_small(fields):
        raise _Unusual
    fields["_type"] = str.lower(fields["_type"])
    fields["_event_at"] = to_utc_timestamp(fields["_event_at"])
    fields = _checker(contract)(fields)
    if not is_plain(fields["data"]):
        fields["data"] = _normalise_data(fields["data"])
    if _record_errors(fields, contract):
        raise _Unusual
    line = encode(_with_project_form(fields, contract))
    if not looks_plain(line):
        raise _Unusual
    return fields, line


def _is_small(fields: Mapping[str, Any]) -> bool:
    """Return whether pydantic's core can check the fields at once, because it finds few errors and little text.

    The core keeps every error of a mapping as an object. It has no maximum for the fields that are counted here.
    """
    get = fields.get
    ids, projects, pii, people = fields["_vendor_ids"], get("_project_ids"), get("_pii"), get("_participants")
    files = get("_attachments")
    return (
        len(fields) < _MANY
        and len(ids) <= _MANY
        and sum(map(len, ids.values())) <= _MUCH_TEXT
        and (projects is None or len(projects) <= _MANY)
        and (pii is None or len(pii) + len(pii.get("detected_entities") or ()) <= _MANY)
        and len(fields["_type"]) <= _MANY
        and (not people or max(map(len, people)) <= _MANY)
        and (not files or max(map(len, files)) <= _MANY)
    )


_MANY = 200
"""Fields of a mapping, and items of a list without a published maximum. More are unusual, or more than can be valid."""

_MUCH_TEXT = 1_000_000
"""Characters of all vendor ids. More are unusual."""


def _normalise_data(data: Any) -> Any:
    normaliser = Normaliser()
    converted = normaliser.convert(data, (None, "data"))
    if normaliser.errors:
        raise _Unusual
    _check_size(normaliser, converted)
    return converted


def _check_size(normaliser: Normaliser, converted: Any) -> None:
    if not normaliser.has_few_values:
        is_plain(converted, limits.MAX_DEPTH + 1)  # only for its TooLarge: the values are plain now


def _full_check(given: Mapping[str, Any], contract: str) -> tuple[dict[str, Any], bytes]:
    errors = ErrorList()
    try:
        fields = _find_errors(given, contract, errors)
    except TooManyErrors:
        raise InvalidRecord(errors, is_cut=True) from None
    except TooLarge:
        raise _too_large(f"more than {limits.MAX_RECORD_BYTES:,} bytes") from None
    if errors:
        raise InvalidRecord(errors)
    fields = _checker(contract)(fields)
    return fields, encode(_with_project_form(fields, contract))


def _find_errors(given: Mapping[str, Any], contract: str, errors: ErrorList) -> dict[str, Any]:
    """Return the fields in JSON's types, and add to ``errors`` what is wrong with them."""
    fields = _normalise(_cut(_read_fields(given, contract), errors), errors)
    # A value that JSON cannot represent has its error already. The schema would add an error about its placeholder.
    paths = {error.path for error in errors}
    for error in _field_errors(fields, contract):
        if error.path not in paths:
            errors.append(error)
    for error in _record_errors(fields, contract):
        errors.append(error)
    return fields


def _read_fields(given: Mapping[str, Any], contract: str) -> dict[str, Any]:
    """Return the fields of a record; not all if there are many, but those that Evermuse has."""
    fields = dict(islice(given.items(), _MANY))
    if len(fields) < _MANY:
        return fields
    from .schema import rules

    return {name: given[name] for name in rules(contract).members if name in given} | fields


def _cut(fields: dict[str, Any], errors: ErrorList) -> dict[str, Any]:
    """Return the fields with no more items of a list than are allowed, so that no others are visited."""
    for name, max_items in limits.MAX_ITEMS.items():
        items = fields.get(name)
        if isinstance(items, list | tuple) and len(items) > max_items:
            errors.append(FieldError(name, "Too many.", f"{len(items):,}", f"at most {max_items:,}"))
            fields[name] = [*islice(items, max_items)]
    return fields


@cache
def _checker(contract: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    from .schema import checker  # late, because only a process that validates needs pydantic

    return checker(contract)


def _field_errors(fields: Mapping[str, Any], contract: str) -> Iterable[FieldError]:
    from .schema import find_errors

    try:
        if _is_small(fields):
            _checker(contract)(fields)
            return ()
    except Exception:  # noqa: S110
        pass
    return find_errors(fields, contract)


def _with_project_form(fields: dict[str, Any], contract: str) -> dict[str, Any]:
    """Return the fields with the project in the form of the contract, at the same position."""
    name, other_name = _PROJECT_FIELDS[contract]
    if other_name not in fields:
        return fields
    projects = fields.get("_project_ids") or [fields["_project_id"]]
    project = projects if contract == "openapi" else projects[0]
    converted = {}
    for each, value in fields.items():
        if each == other_name:
            converted[name] = project
        else:
            converted[each] = value
    return converted


_PROJECT_FIELDS = {
    "reference": ("_project_id", "_project_ids"),
    "openapi": ("_project_ids", "_project_id"),
}


def _normalise(given: Mapping[str, Any], errors: ErrorList) -> dict[str, Any]:
    normaliser = Normaliser(errors)
    rest = {name: value for name, value in given.items() if name != "_event_at"}
    fields = normaliser.convert(rest)
    if not errors:
        _check_size(normaliser, fields)
    for name in fields.keys() - {"data", "_vendor_ids"}:
        fields[name] = _without_none(fields[name])
    fields = {name: value for name, value in fields.items() if value is not None}
    if isinstance(fields.get("_type"), str):
        fields["_type"] = fields["_type"].lower()
    _set_event_at(fields, given.get("_event_at"), errors)
    return fields


def _set_event_at(fields: dict[str, Any], value: Any, errors: ErrorList) -> None:
    """Set ``_event_at`` in ``fields`` unless ``value`` is None."""
    if value is None:
        return
    fields["_event_at"] = REFUSED
    try:
        fields["_event_at"] = to_utc_timestamp(_resolve(value))
        return
    except InvalidTimestamp as error:
        message = str(error)
    except Exception as error:  # a class or a time zone of the host
        message = f"It cannot be read, because this raises {type_name(error)}."
    errors.append(FieldError("_event_at", message, show_value(value), timestamps.ALLOWED))


def _resolve(value: Any) -> Any:
    resolved = value.value if isinstance(value, Enum) else value
    return str(resolved) if isinstance(resolved, Promise) else resolved


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_none(member) for name, member in value.items() if member is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


def _record_errors(fields: Mapping[str, Any], contract: str) -> list[FieldError]:
    """Return the errors that no rule for a single field can detect. Fields that already have an error are ignored."""
    data = fields.get("data")
    errors = _project_errors(fields, contract)
    product = fields.get("_product_id")
    if isinstance(product, str) and "\0" in product:
        # The name of the product is a column, and PostgreSQL stores no NUL. In a line it is written as an escape.
        errors.append(
            FieldError("_product_id", "A NUL character: remove it.", show_value(product), "text without NUL")
        )
    if data is not None and data is not REFUSED and not isinstance(data, dict):
        message = advice.describe_non_mapping(data)
        errors.append(FieldError("data", message, show_value(data), "a mapping with text keys"))
    return errors


def _project_errors(fields: Mapping[str, Any], contract: str) -> list[FieldError]:
    project, projects = fields.get("_project_id"), fields.get("_project_ids")
    if project is None and projects is None:
        name = _PROJECT_FIELDS[contract][0]
        return [FieldError(name, "Required.", "nothing", "_project_id or _project_ids")]
    if not isinstance(projects, list) or not all(isinstance(each, str) for each in projects):
        return []
    if isinstance(project, str) and projects != [project]:
        message = f"Not the project of _project_id ({show_value(project)}): give one of the two."
        allowed = f"[{show_value(project)}], or _project_ids alone"
        return [FieldError("_project_ids", message, show_value(projects), allowed)]
    if contract == "reference" and len(projects) > 1:
        message = 'The contract "reference" allows one project a record; "openapi" allows several.'
        return [FieldError("_project_ids", message, show_value(projects), "one project")]
    return []


def _too_large(size: str) -> RecordTooLarge:
    message = "Too large for any request, even alone: shorten data, or send the large part as an attachment."
    return RecordTooLarge([FieldError("", message, size, f"at most {limits.MAX_RECORD_BYTES:,} bytes")])
