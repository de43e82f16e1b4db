"""The record as Evermuse's OpenAPI document has it, as rules for pydantic's core.

Import it late: pydantic_core takes a while to load, and only those who validate need it. Without pydantic's
classes around it the core does the same work in a quarter of the import time, and its tables read like the
document. How many items a list may have stands in ``limits.MAX_ITEMS`` instead: the core would stop at a list
that is too long and say nothing of what is in it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache
from typing import Any

from pydantic_core import SchemaValidator, ValidationError
from pydantic_core import core_schema as core

from .. import limits
from ..errors import FieldError, shown
from . import record
from . import timestamps as moments
from .json_values import ALLOWED_VALUES, inside

# RFC 5321, section 4.1.2: a dot-string at a domain name. Quoted names and bare addresses ([192.0.2.1]) are
# left out: whoever writes from such an address can still be named by the participant's id.
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
EMAIL = rf"^{_ATEXT}(?:\.{_ATEXT})*@{_LABEL}(?:\.{_LABEL})*$"

# RFC 3986, appendix A: a URI (not a relative reference) with an authority or without.
_HEX = r"%[0-9A-Fa-f]{2}"
_REG = rf"(?:[A-Za-z0-9._~!$&'()*+,;=-]|{_HEX})"
_PCHAR = rf"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|{_HEX})"
_H16 = r"[0-9A-Fa-f]{1,4}"
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_LS32 = rf"(?:{_H16}:{_H16}|{_OCTET}(?:\.{_OCTET}){{3}})"
_SHORTENED = [
    rf"(?:(?:{_H16}:){{0,{before}}}{_H16})?::{after}"
    for before, after in enumerate(
        [*(rf"(?:{_H16}:){{{count}}}{_LS32}" for count in (4, 3, 2, 1, 0)), _H16, ""]
    )
]
_IPV6 = rf"\[(?:{'|'.join([rf'(?:{_H16}:){{6}}{_LS32}', rf'::(?:{_H16}:){{5}}{_LS32}', *_SHORTENED])})\]"
_AUTHORITY = rf"//(?:(?:{_REG}|:)*@)?(?:{_IPV6}|{_REG}*)(?::[0-9]*)?(?:/{_PCHAR}*)*"
_PATH = rf"(?:/?{_PCHAR}+(?:/{_PCHAR}*)*|/)"
URI = rf"^[A-Za-z][A-Za-z0-9+.-]*:(?:{_AUTHORITY}|{_PATH})(?:\?(?:{_PCHAR}|[/?])*)?(?:#(?:{_PCHAR}|[/?])*)?$"


@dataclass(frozen=True, slots=True)
class Rule:
    """What the core checks, and the same in words; ``members`` by name, ``item`` for any other step down."""

    schema: core.CoreSchema
    allowed: str
    required: bool = False
    members: Mapping[str, "Rule"] = field(default_factory=dict)
    item: "Rule | None" = None

    def below(self, step: str | int) -> "Rule":
        """The rule one step down; itself where none is known."""
        return self.members.get(str(step)) or self.item or self


def required(rule: Rule) -> Rule:
    return replace(rule, required=True)


def text(most: int | None = None, *, least: int | None = None) -> Rule:
    words = "text" if not least else "non-empty text"
    allowed = words if most is None else f"{words} of at most {most:,} characters"
    return Rule(core.str_schema(min_length=least, max_length=most, strict=True), allowed)


def formed(pattern: str, most: int, *, name: str, allowed: str) -> Rule:
    form = core.custom_error_schema(
        core.str_schema(pattern=pattern), custom_error_type=name, custom_error_message=name
    )
    return Rule(core.chain_schema([text(most).schema, form]), f"{allowed}, at most {most:,} characters")


def one_of(values: tuple[str, ...]) -> Rule:
    return Rule(core.literal_schema(list(values)), ", ".join(values))


def fraction() -> Rule:
    schema = core.float_schema(ge=0, le=1, allow_inf_nan=False, strict=True)
    # Even when strict, a float of the core's may be a Decimal, which is text everywhere else in a record.
    number = core.is_instance_schema((int, float), cls_repr="number")
    return Rule(core.chain_schema([number, schema]), "a number from 0 to 1")


def list_of(item: Rule, *, least: int | None = None, most: int | None = None) -> Rule:
    counted = f"at least {least}" if least else f"at most {most:,}" if most else "any number"
    schema = core.list_schema(item.schema, min_length=least, strict=True)
    return Rule(schema, f"a list ({counted}) of: {item.allowed}", item=item)


def closed(**members: Rule) -> Rule:
    """A mapping of exactly these; it comes out in this order."""
    fields = {
        name: core.typed_dict_field(rule.schema, required=rule.required) for name, rule in members.items()
    }
    schema = core.typed_dict_schema(fields, extra_behavior="forbid", strict=True)
    return Rule(schema, f"a mapping of {', '.join(members)}", members=members)


PARTICIPANT = closed(
    id=required(text(256)),
    name=text(256),
    email=formed(EMAIL, 320, name="email", allowed="an e-mail address such as ann@example.com"),
    role=required(one_of(record.ROLES)),
    type=one_of(record.PARTICIPANT_TYPES),
)

ATTACHMENT = closed(
    type=required(one_of(record.ATTACHMENT_TYPES)),
    filename=text(512),
    size=Rule(core.int_schema(ge=0, strict=True), "a whole number of bytes, 0 or more"),
    mime_type=text(256),
    sha1=text(128),
    md5=text(128),
    vendor_url=formed(URI, limits.MAX_URL, name="uri", allowed="an absolute URI as RFC 3986 has it"),
    upload_intent_id=text(256),
)

PII = closed(
    contains_email=Rule(core.bool_schema(strict=True), "True or False"),
    contains_phone=Rule(core.bool_schema(strict=True), "True or False"),
    sensitive_score=fraction(),
    detected_entities=list_of(closed(type=required(text(64)), value=text(1_024), confidence=fraction())),
    redaction_status=one_of(record.REDACTION_STATUSES),
)

VENDOR_ID = text(least=1)
VENDOR_IDS = Rule(
    core.dict_schema(core.str_schema(strict=True), VENDOR_ID.schema, min_length=1, strict=True),
    "a mapping of at least one name to an id, both text, the id not empty",
    item=VENDOR_ID,
)

PROJECT_ID = text(limits.MAX_PROJECT_ID, least=1)


@cache
def rules(contract: str) -> Rule:
    """A whole record under one contract, fields in canonical order.

    Both contracts refuse unknown fields, though only the OpenAPI document says so: a host may change the
    contract with rows waiting, and none of them may be stranded by it.
    """
    nature = one_of(record.NATURES)
    return closed(
        _type=required(one_of(record.TYPES[contract])),
        _schema_version=required(one_of((record.SCHEMA_VERSION,))),
        _event_at=required(Rule(core.str_schema(strict=True), moments.ALLOWED)),
        _vendor_ids=required(VENDOR_IDS),
        _product_id=required(text(limits.MAX_PRODUCT_ID, least=1)),
        _project_id=PROJECT_ID,
        _project_ids=list_of(PROJECT_ID, least=1),
        _nature=required(nature) if contract == "openapi" else nature,
        _thread_id=text(limits.MAX_THREAD_ID),
        _participants=list_of(PARTICIPANT, most=limits.MAX_PARTICIPANTS),
        _attachments=list_of(ATTACHMENT, most=limits.MAX_ATTACHMENTS),
        _tags=list_of(text(limits.MAX_TAG), most=limits.MAX_TAGS),
        _pii=PII,
        data=required(Rule(core.any_schema(), f"a mapping with text keys, of {ALLOWED_VALUES}")),
    )


@cache
def checker(contract: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """The check of one contract: gives fields in canonical order, or raises the core's ``ValueError``."""
    return SchemaValidator(rules(contract).schema).validate_python


def field_errors(fields: Mapping[str, Any], contract: str) -> list[FieldError]:
    """All that the check finds in ``fields``; empty where it finds nothing."""
    try:
        checker(contract)(fields)
    except ValidationError as found:
        return [_field_error(error, contract) for error in found.errors(include_url=False)]
    return []


def _field_error(error: Mapping[str, Any], contract: str) -> FieldError:
    path, rule = "", rules(contract)
    around = rule
    for step in error["loc"]:
        path = inside(path, step)
        around, rule = rule, rule.below(step)
    got = "nothing" if error["type"] == "missing" else shown(error["input"])
    if error["type"] == "extra_forbidden":
        return FieldError(path, _unknown_field(error["loc"][-1], around), got, ", ".join(around.members))
    return FieldError(path, _message(error, rule, contract), got, rule.allowed)


def _unknown_field(name: str, around: Rule) -> str:
    return f"No such field.{_suggestion(name, around.members)}"


def _message(error: Mapping[str, Any], rule: Rule, contract: str) -> str:
    tell = _MESSAGES.get(error["type"])
    if tell is not None:
        return tell
    if error["type"] == "literal_error":
        return _unknown_value(error["input"], rule, contract)
    length = len(error["input"]) if error["type"] in _LENGTHS else 0
    return f"{_LENGTHS[error['type']]} ({length:,})." if length else f"{error['msg']}."


def _unknown_value(value: Any, rule: Rule, contract: str) -> str:
    if not isinstance(value, str):
        return "Not one of the known values."
    if contract == "reference" and rule is rules(contract).members["_type"] and value in record.OPENAPI_TYPES:
        return 'Only the contract "openapi" has this type.'
    return f"Not one of the known values.{_suggestion(value, rule.allowed.split(', '))}"


def _suggestion(value: str, known: Any) -> str:
    near = get_close_matches(value.lower(), list(known), n=1)
    return f" Did you mean {near[0]}?" if near else ""


_NOT_A_NUMBER = "Not a number: write float(value) if that is meant."

_LENGTHS = {"string_too_long": "Too many characters"}

_MESSAGES = {
    "missing": "Required.",
    "string_type": "Not text: write it as a string yourself, nothing is converted silently.",
    "string_too_short": "Empty.",
    "too_short": "Empty.",
    "list_type": "Not a list.",
    "dict_type": "Not a mapping.",
    "int_type": "Not a whole number.",
    "is_instance_of": _NOT_A_NUMBER,
    "float_type": _NOT_A_NUMBER,
    "bool_type": "Not a bool.",
    "greater_than_equal": "Too small.",
    "less_than_equal": "Too large.",
    "finite_number": "Not a finite number.",
    "email": "Not an e-mail address.",
    "uri": "Not an absolute URI: begin with https://, percent-encode what is special (urllib.parse.quote).",
}
