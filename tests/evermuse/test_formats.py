"""The formats: never more than other validators accept, one decision in Python and in the core, advice for mistakes."""

from __future__ import annotations

from decimal import Decimal

import jsonschema
import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import SchemaValidator

from evermuse_outbox.evermuse import formats, limits
from evermuse_outbox.evermuse.records import schema

EMAIL, URI = {"type": "string", "format": "email"}, {"type": "string", "format": "uri"}


def validators_of(json_schema):
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    assert json_schema["format"] in checker.checkers
    return (
        jsonschema.Draft202012Validator(json_schema, format_checker=checker).is_valid,
        jsonschema_rs.Draft202012Validator(json_schema, validate_formats=True).is_valid,
    )


EMAIL_VALIDATORS, URI_VALIDATORS = validators_of(EMAIL), validators_of(URI)
IN_CORE = {
    "email": SchemaValidator(schema.PARTICIPANT.members["email"].schema),
    "uri": SchemaValidator(schema.ATTACHMENT.members["vendor_url"].schema),
}


def core_accepts(name, text):
    try:
        return IN_CORE[name].validate_python(text) == text
    except ValueError:
        return False


def joined(*pieces, max_size=8):
    return st.lists(st.sampled_from(pieces), max_size=max_size).map("".join)


LABELS = ("a", "Z", "1", "-", "--", ".", "xn--", "XN--", "xn--nn-xka", "nn-xka", "b" * 63, "example.com")
NAMES = ("a", "Z", "1", ".", "+", "'", "%", "a" * 64, "é", '"', " ")
ODD = ("@", "_", "[192.0.2.1]", "[IPv6:::1]", "\n", "\0", "ü", "<", ">", "(", ",")
addresses = (
    st.tuples(joined(*NAMES, *ODD), joined(*LABELS, *ODD)).map("@".join)
    | st.tuples(joined(*NAMES, max_size=3), joined(*LABELS)).map("@".join)
    | st.emails()
)
PARTS = (
    "http",
    "https:",
    "://",
    "/",
    "?",
    "#",
    ":",
    "@",
    "[",
    "]",
    "::1",
    "[::1]",
    "1:",
    "v1.",
    "a",
    "%20",
    "%zz",
)
MORE_PARTS = (
    ".",
    "-",
    "_",
    "!",
    "'",
    "(",
    ",",
    ";",
    "=",
    "é",
    " ",
    "\n",
    "|",
    "\\",
    "1.2.3.4",
    "80",
    "x:",
    "urn:",
)
urls = joined(*PARTS, *MORE_PARTS) | joined(*PARTS, *MORE_PARTS).map("https://h".__add__)


@given(addresses)
@settings(deadline=None)
def test_an_accepted_address_is_accepted_by_other_validators(text):
    accepted = formats.is_email(text)
    assert core_accepts("email", text) == accepted
    if accepted:
        assert all(is_valid(text) for is_valid in EMAIL_VALIDATORS)
    elif all(is_valid(text) for is_valid in EMAIL_VALIDATORS):
        # Documented: other validators take these, and an international name in upper case.
        assert text.startswith('"') or text.endswith(("]", ">")) or "xn--" in text


@given(urls)
@settings(deadline=None)
def test_an_accepted_uri_is_accepted_by_other_validators(text):
    accepted = formats.is_uri(text)
    assert core_accepts("uri", text) == accepted
    if accepted:
        assert all(is_valid(text) for is_valid in URI_VALIDATORS)
    elif all(is_valid(text) for is_valid in URI_VALIDATORS):
        # Documented: a URI with nothing after its scheme, and addresses of a future version of IP.
        _, _, rest = text.partition(":")
        assert rest[:1] in {"", "?", "#"} or "[v" in rest


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Empty. Leave email out; id is enough."),
        (" ", "Empty."),
        ("ann@example.com ", "email.strip()"),
        ("Ann <ann@example.com>", "email.utils.parseaddr"),
        ("mailto:ann@example.com", "remove mailto:"),
        ("ann", "no @"),
        ("ann@", "no @"),
        ('"ann b"@example.com', "Quoted names and address literals"),
        ("ann@[192.0.2.1]", "Quoted names and address literals"),
        ("ann@ünn.example", "idna.encode(domain)"),
        ("ünn@example.com", "not ASCII before the @"),
        ("ann@example.com,bob@example.com", "a participant for each"),
        ("ann@@example.com", "More than one address"),
        ("ann@b_c.example", "Not an e-mail address."),
        ("a" * 65 + "@example.com", "64 characters before the @"),
        ("a@" + "b." * 127 + "b", "253 characters after the @"),
        ("a@xn--a.example", "international name"),
        ("a@XN--NN-XKA.example", "international name"),
    ],
)
def test_the_advice_for_a_text_that_is_no_address(text, words):
    problem = formats.find_email_problem(text)
    assert words in problem
    assert problem.lower().endswith("leave email out; id is enough.")


def test_the_longest_address_is_shorter_than_the_published_maximum():
    longest = "a" * 64 + "@" + "b." * 126 + "b"
    assert formats.find_email_problem(longest) == ""
    assert len(longest) <= formats.MAX_EMAIL


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "leave it out"),
        (" https://example.com", "url.strip()"),
        ("/media/a.mp3", "request.build_absolute_uri(url)"),
        ("example.com/a.mp3", "begin with https://"),
        ("https://example.com/a b.mp3", "urllib.parse.quote"),
    ],
)
def test_the_advice_for_a_text_that_is_no_uri(text, words):
    assert not formats.is_uri(text)
    assert words in formats.describe_uri_problem(text)


def test_the_length_of_a_uri():
    start = "https://example.com/"
    assert formats.is_uri(start + "a" * (limits.MAX_URL - len(start)))
    assert not formats.is_uri(start + "a" * (limits.MAX_URL - len(start) + 1))


@pytest.mark.parametrize("number", [0, -0.0, 1.5, 10**308, limits.MAX_NUMBER, 5e-324])
def test_numbers(number):
    assert formats.is_number(number)


@pytest.mark.parametrize("value", [None, 5, b"a@b", ["a@b"]])
def test_a_value_that_is_not_text_has_no_format(value):
    assert not formats.is_email(value)
    assert not formats.is_uri(value)


@pytest.mark.parametrize("value", [None, True, "5", Decimal(5), 5j])
def test_a_value_of_another_type_is_no_number(value):
    assert not formats.is_number(value)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 10**309, -(10**309), limits.MAX_NUMBER + 1])
def test_what_is_no_number_for_json(number):
    assert not formats.is_number(number)
