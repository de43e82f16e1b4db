"""The record of Evermuse's OpenAPI document, as rules for pydantic's core.

Import this module inside functions: pydantic_core takes long to load, and only a process that validates needs it. The
core alone loads in a quarter of the time of pydantic's classes. The core stops at the first error in a list, so that a
list with a million errors costs no more than one with one. ``find_errors`` then looks for as many as are listed.

E-mail addresses and URIs are checked by :mod:`..formats`, because the libraries differ from the published formats:
pydantic's ``AnyUrl`` takes unescaped spaces and line breaks, and email-validator rejects ``ann@host``. With
email-validator, ``validate`` would also check only 13,000 records per second of CPU time, not 72,000
(``python -m benchmarks formats``).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from pydantic_core import PydanticCustomError, SchemaValidator, ValidationError
from pydantic_core import core_schema as core

from ...foreign_text import show_value
from .. import FieldError, advice, formats, limits
from . import record, timestamps
from .json_values import ALLOWED_VALUES, join_path


@dataclass(frozen=True, slots=True)
class Rule:
    """A check of pydantic's core, and the values that it allows, in words.

    ``members`` has the rules for the named fields of a mapping. ``item`` is the rule for all other values inside.
    """

    schema: core.CoreSchema
    allowed: str
    required: bool = False
    members: Mapping[str, "Rule"] = field(default_factory=dict)
    item: "Rule | None" = None

    def rule_of(self, step: str | int) -> "Rule":
        """Return the rule of a field or item, or this rule if there is none."""
        return self.members.get(str(step)) or self.item or self


def required(rule: Rule) -> Rule:
    """Return the rule for a field that must be present."""
    return replace(rule, required=True)


def text(max_length: int | None = None, *, min_length: int | None = None) -> Rule:
    """Return the rule for text; lengths are in characters."""
    words = "text" if not min_length else "non-empty text"
    allowed = words if max_length is None else f"{words} of at most {max_length:,} characters"
    return Rule(core.str_schema(min_length=min_length, max_length=max_length, strict=True), allowed)


def email() -> Rule:
    """Return the rule for an e-mail address."""
    usual = core.str_schema(pattern=formats.USUAL_EMAIL, max_length=formats.MAX_USUAL_EMAIL)
    other = core.no_info_plain_validator_function(_check_unusual_email)
    form = core.union_schema([usual, other], mode="left_to_right")
    return _formatted("email", form, formats.MAX_EMAIL, "an e-mail address such as ann@example.com")


def _check_unusual_email(text: str) -> str:
    if problem := formats.find_email_problem(text):
        raise ValueError(problem)
    return text


def uri() -> Rule:
    """Return the rule for an absolute URI."""
    return _formatted(
        "uri", core.str_schema(pattern=formats.URI), limits.MAX_URL, "an absolute URI (RFC 3986)"
    )


def _formatted(name: str, form: core.CoreSchema, max_length: int, allowed: str) -> Rule:
    """Return the rule for text of a form. Its errors have the type ``name``, so that they hold no inner errors."""
    schema = core.custom_error_schema(form, custom_error_type=name, custom_error_message=name)
    words = f"{allowed}, at most {max_length:,} characters"
    return Rule(core.chain_schema([text(max_length).schema, schema]), words)


def one_of(values: tuple[str, ...]) -> Rule:
    """Return the rule for text that is one of ``values``."""
    return Rule(core.literal_schema(list(values)), ", ".join(values))


def fraction() -> Rule:
    """Return the rule for a number from 0 to 1. It is sent as it is given: ``1`` does not become ``1.0``."""
    limit_schema = core.float_schema(ge=0, le=1, allow_inf_nan=False, strict=True)
    return Rule(core.no_info_wrap_validator_function(_check_number, limit_schema), "a number from 0 to 1")


def _check_number(value: Any, check: Callable[[Any], Any]) -> Any:
    # The core's strict float would also take a Decimal. Everywhere else in a record, a Decimal becomes text.
    if type(value) is not int and type(value) is not float:
        raise PydanticCustomError("float_type", "not a number")
    check(value)
    return value


def list_of(item: Rule, *, min_items: int | None = None, max_items: int | None = None) -> Rule:
    """Return the rule for a list. ``validation.py`` reports a list of more than ``max_items`` items."""
    count = f"at least {min_items}" if min_items else f"at most {max_items:,}" if max_items else "any number"
    schema = core.list_schema(
        item.schema,
        min_length=min_items,
        max_length=max_items,
        fail_fast=True,  # `find_errors` looks for the others
        strict=True,
    )
    return Rule(schema, f"a list ({count}) of: {item.allowed}", item=item)


def closed(**members: Rule) -> Rule:
    """Return the rule for a mapping with these fields and no others; the core puts them into this order."""
    fields = {
        name: core.typed_dict_field(rule.schema, required=rule.required) for name, rule in members.items()
    }
    schema = core.typed_dict_schema(fields, extra_behavior="forbid", strict=True)
    return Rule(schema, f"a mapping of {', '.join(members)}", members=members)


PARTICIPANT = closed(
    id=required(text(256)),
    name=text(256),
    email=email(),
    role=required(one_of(record.ROLES)),
    type=one_of(record.PARTICIPANT_TYPES),
)

ATTACHMENT = closed(
    type=required(one_of(record.ATTACHMENT_TYPES)),
    filename=text(512),
    size=Rule(core.int_schema(ge=0, le=limits.MAX_NUMBER, strict=True), "a whole number of bytes, 0 or more"),
    mime_type=text(256),
    sha1=text(128),
    md5=text(128),
    vendor_url=uri(),
    upload_intent_id=text(256),
)

PII = closed(
    contains_email=Rule(core.bool_schema(strict=True), "True or False"),
    contains_phone=Rule(core.bool_schema(strict=True), "True or False"),
    sensitive_score=fraction(),
    detected_entities=list_of(closed(type=required(text(64)), value=text(1_024), confidence=fraction())),
    redaction_status=one_of(record.REDACTION_STATUSES),
)

VENDOR_ID = text(min_length=1)
VENDOR_IDS = Rule(
    core.dict_schema(
        core.str_schema(strict=True), VENDOR_ID.schema, min_length=1, fail_fast=True, strict=True
    ),
    'a mapping of names to ids, such as {"message_id": "17"}; at least one, all of them text that is not empty',
    item=VENDOR_ID,
)

PROJECT_ID = text(limits.MAX_PROJECT_ID, min_length=1)


@cache
def rules(contract: str) -> Rule:
    """Return the rule for a record under ``contract``, with its fields in canonical order.

    Both contracts reject unknown fields, although only the OpenAPI document says so. The host may change the contract
    while records wait, and every waiting record must be valid under the other one.
    """
    nature = one_of(record.NATURES)
    return closed(
        _type=required(one_of(record.TYPES[contract])),
        _schema_version=required(one_of((record.SCHEMA_VERSION,))),
        _event_at=required(Rule(core.str_schema(strict=True), timestamps.ALLOWED)),
        _vendor_ids=required(VENDOR_IDS),
        _product_id=required(text(limits.MAX_PRODUCT_ID, min_length=1)),
        _project_id=PROJECT_ID,
        _project_ids=list_of(PROJECT_ID, min_items=1),
        _nature=required(nature) if contract == "openapi" else nature,
        _thread_id=text(limits.MAX_THREAD_ID),
        _participants=list_of(PARTICIPANT, max_items=limits.MAX_PARTICIPANTS),
        _attachments=list_of(ATTACHMENT, max_items=limits.MAX_ATTACHMENTS),
        _tags=list_of(text(limits.MAX_TAG), max_items=limits.MAX_TAGS),
        _pii=PII,
        data=required(Rule(core.any_schema(), f"a mapping with text keys, of {ALLOWED_VALUES}")),
    )


@cache
def checker(contract: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return the check for ``contract``: it returns the fields in canonical order, or raises a ``ValueError``."""
    return SchemaValidator(rules(contract).schema).validate_python


def find_errors(fields: Mapping[str, Any], contract: str) -> Iterator[FieldError]:
    """Yield every error of ``fields``, in canonical order. The caller takes as many as it lists.

    The core itself would keep all of them as objects, which takes hundreds of bytes for each.
    """
    for error in _errors_in(fields, rules(contract), ()):
        yield _field_error(error, contract)


def _errors_in(value: Any, rule: Rule, location: tuple[str | int, ...]) -> Iterator[dict[str, Any]]:
    if rule.members and isinstance(value, Mapping):
        yield from _errors_in_fields(value, rule, location)
    elif rule.item and value and isinstance(value, list | dict) and _has_kind_of(value, rule):
        steps = value.items() if isinstance(value, dict) else enumerate(value)
        for step, item in steps:
            yield from _errors_in(item, rule.item, (*location, step))
    else:
        for error in _core_errors(value, rule):
            yield {**error, "loc": (*location, *error["loc"])}


def _errors_in_fields(
    value: Mapping[str, Any], rule: Rule, location: tuple[str | int, ...]
) -> Iterator[dict[str, Any]]:
    for name, member in rule.members.items():
        if name in value:
            yield from _errors_in(value[name], member, (*location, name))
        elif member.required:
            yield {"type": "missing", "loc": (*location, name), "input": value}
    for name in value:
        if name not in rule.members:
            yield {"type": "extra_forbidden", "loc": (*location, name), "input": value[name]}


def _has_kind_of(value: Any, rule: Rule) -> bool:
    return bool(isinstance(value, dict) == (rule.schema["type"] == "dict"))


def _core_errors(value: Any, rule: Rule) -> list[Any]:
    """Return the errors of a value that is not looked into: few, because it is no container or has the wrong kind."""
    validator = _validators.get(id(rule))
    if validator is None:
        validator = _validators[id(rule)] = SchemaValidator(rule.schema)
    try:
        validator.validate_python(value)
    except ValidationError as failure:
        return list(failure.errors(include_url=False))
    return []


def check_url(value: Any) -> None:
    """Raise ``ValueError`` with the reason if an attachment cannot have ``value`` as its ``vendor_url``."""
    rule = ATTACHMENT.members["vendor_url"]
    for error in _core_errors(value, rule):
        raise ValueError(f"{_message(error, rule, 'openapi')} Allowed: {rule.allowed}.")


_validators: dict[int, SchemaValidator] = {}
"""The validator of each rule by its ``id``. Rules are never deleted."""


def _field_error(error: Mapping[str, Any], contract: str) -> FieldError:
    path, rule = "", rules(contract)
    parent = rule
    for step in error["loc"]:
        path = join_path(path, step)
        parent, rule = rule, rule.rule_of(step)
    got = "nothing" if error["type"] == "missing" else show_value(error["input"])
    if error["type"] == "extra_forbidden":
        message = advice.describe_unknown_field(error["loc"][-1], error["input"], parent.members)
        return FieldError(path, message, got, ", ".join(parent.members))
    return FieldError(path, _message(error, rule, contract), got, rule.allowed)


def _message(error: Mapping[str, Any], rule: Rule, contract: str) -> str:
    message = _MESSAGES.get(error["type"])
    if message is not None:
        return message if isinstance(message, str) else message(error["input"])
    if error["type"] == "literal_error":
        return _unknown_value(error["input"], rule, contract)
    length = len(error["input"]) if error["type"] in _LENGTHS else 0
    return f"{_LENGTHS[error['type']]} ({length:,})." if length else f"{error['msg']}."


def _unknown_value(value: Any, rule: Rule, contract: str) -> str:
    if contract == "reference" and rule is rules(contract).members["_type"] and value in record.OPENAPI_TYPES:
        return 'Only the contract "openapi" has this type.'
    return advice.describe_unknown_value(value, rule.allowed.split(", "))


_LENGTHS = {"string_too_long": "Too many characters"}

_MESSAGES: dict[str, str | Callable[[Any], str]] = {
    "missing": "Required.",
    "string_type": advice.describe_non_text,
    "string_too_short": "Empty.",
    "too_short": "Empty.",
    "list_type": advice.describe_non_list,
    "dict_type": advice.describe_non_mapping,
    "int_type": advice.describe_non_int,
    "float_type": "Not a number: write float(value) if that is meant.",
    "bool_type": "Not a bool: write True or False.",
    "greater_than_equal": "Too small.",
    "less_than_equal": "Too large.",
    "finite_number": "Not a finite number.",
    "email": formats.find_email_problem,
    "uri": formats.describe_uri_problem,
}
