"""A record's line in the form of the other contract, for rows waiting while the host changes ``CONTRACT``."""

import json
from collections.abc import Iterator, Mapping

from ..errors import Untranslatable
from ..limits import MAX_RECORD_BYTES
from .json_values import encode
from .record import CONTRACTS, NATURES, REFERENCE_TYPES

_CANONICAL_ORDER = (
    "_type",
    "_schema_version",
    "_event_at",
    "_vendor_ids",
    "_product_id",
    "_project_id",
    "_project_ids",
    "_nature",
    "_thread_id",
    "_participants",
    "_attachments",
    "_tags",
    "_pii",
    "data",
)
_REQUIRED = {"_type", "_schema_version", "_event_at", "_vendor_ids", "_product_id", "data"}
_HOW_TO_GO_ON = 'Set CONTRACT back to "openapi" and retry it, or enqueue it in another form.'

_read = json.JSONDecoder().raw_decode


def translate(line: str, *, to: str, default_nature: str = "evidence") -> str:
    """The record of ``line``, which ``validate`` wrote, in the form of the contract ``to``.

    Only the project field changes and, towards ``"openapi"``, a missing ``_nature`` becomes
    ``default_nature``: everything else keeps its very bytes, and the record its identity.

    Raises ``Untranslatable`` where the contract cannot say the record, ``ValueError`` for an unknown contract
    or nature.
    """
    if to not in CONTRACTS or default_nature not in NATURES:
        raise ValueError(f"no such contract or nature: {to!r}, {default_nature!r}")
    members = _members(line)
    if to == "reference":
        _to_reference(members)
    else:
        _to_openapi(members, default_nature)
    return _written(members)


def _to_reference(members: dict[str, str]) -> None:
    record_type = json.loads(members["_type"])
    if record_type not in REFERENCE_TYPES:
        raise Untranslatable(f'The contract "reference" has no type {record_type!r}. {_HOW_TO_GO_ON}')
    if "_project_ids" not in members:
        return
    projects = json.loads(members.pop("_project_ids"))
    if len(projects) > 1:
        raise Untranslatable(
            f'The contract "reference" has one project a record; _project_ids names {len(projects)}. {_HOW_TO_GO_ON}'
        )
    members["_project_id"] = encode(projects[0]).decode()


def _to_openapi(members: dict[str, str], default_nature: str) -> None:
    if "_project_id" in members:
        members["_project_ids"] = f"[{members.pop('_project_id')}]"
    members.setdefault("_nature", f'"{default_nature}"')


def _members(line: str) -> dict[str, str]:
    """The text of each field by name; never decoded and encoded again, lest a number be written otherwise."""
    try:
        members = dict(_pairs(line))
    except (ValueError, IndexError):
        members = {}
    if not _REQUIRED <= members.keys() <= set(_CANONICAL_ORDER) or _joined(members) != line:
        raise Untranslatable("Not a line that validate() wrote. Discard it and enqueue the record again.")
    return members


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    end = 0
    while line[end] != "}":
        name, colon = _read(line, end + 1)
        _, end = _read(line, colon + 1)
        yield name, line[colon + 1 : end]


def _joined(members: Mapping[str, str]) -> str:
    return "{" + ",".join([f'"{name}":{text}' for name, text in members.items()]) + "}"


def _written(members: dict[str, str]) -> str:
    line = _joined({name: members[name] for name in _CANONICAL_ORDER if name in members})
    size = len(line.encode())
    if size > MAX_RECORD_BYTES:
        raise Untranslatable(
            f"In the other form it takes {size:,} bytes, and {MAX_RECORD_BYTES:,} is the most. "
            "Keep CONTRACT as it was until it is sent, or discard it and enqueue it shortened."
        )
    return line
