"""The formats of a record's fields: e-mail addresses, absolute URIs and numbers, with advice for what is none.

JSON Schema names the formats ``email`` and ``uri``, and its validators differ. These functions accept only what all of
them accept. Pure. pydantic's core checks nearly every address with ``USUAL_EMAIL`` alone, which takes a tenth of the
time.
"""

from __future__ import annotations

import re
from functools import cache

from . import limits

MAX_EMAIL = 320  # characters; source: OpenAPI Participant.email
_MAX_LOCAL, _MAX_DOMAIN = (
    64,
    253,
)  # characters; source: RFC 5321, section 4.5.3.1, and RFC 1035 for the domain

# Source: RFC 5321, section 4.1.2: a dot-string at a domain name.
_LOCAL = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"

MAX_USUAL_EMAIL = 64
"""Characters of an address in which neither side of the @ can be too long."""

# The third and fourth character of a label are never both hyphens: only an international domain name has them there.
_ANY, _HYPHEN = "[A-Za-z0-9]", "[A-Za-z0-9-]"
_USUAL_LABEL = (
    f"{_ANY}(?:{_ANY}|{_HYPHEN}{{1,2}}{_ANY}|{_HYPHEN}(?:{_ANY}{_HYPHEN}|-{_ANY}){_HYPHEN}*{_ANY})?"
)
USUAL_EMAIL = rf"^{_LOCAL}@{_USUAL_LABEL}(?:\.{_USUAL_LABEL})*$"
"""The pattern of a valid address that has at most ``MAX_USUAL_EMAIL`` characters and no international domain name."""

# Source: RFC 3986, appendix A: a URI with or without an authority, but not a relative reference.
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
"""The pattern of an absolute URI; its length is limited, too."""


def is_email(value: object) -> bool:
    """Return whether a participant can have this e-mail address. A value that is not text is none."""
    return isinstance(value, str) and not find_email_problem(value)


def is_uri(value: object) -> bool:
    """Return whether an attachment can have this ``vendor_url``: an absolute URI of RFC 3986."""
    return (
        isinstance(value, str) and len(value) <= limits.MAX_URL and bool(_compile(URI[1:-1]).fullmatch(value))
    )


def is_number(value: object) -> bool:
    """Return whether a value is a JSON number that a parser with double precision can read.

    An int or a finite float in the range of a double is; a bool, a Decimal and a text are not.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return -limits.MAX_NUMBER <= value <= limits.MAX_NUMBER


def find_email_problem(text: str) -> str:
    """Return what is wrong with an e-mail address, and what to do; empty if a participant can have it."""
    local, _, domain = text.rpartition("@")
    if not _is_dot_string(local) or not _is_domain(domain):
        return _describe_form(text)
    if len(local) > _MAX_LOCAL:
        return f"More than {_MAX_LOCAL} characters before the @. {_CURE}"
    if len(domain) > _MAX_DOMAIN:
        return f"More than {_MAX_DOMAIN} characters after the @. {_CURE}"
    if not all(map(_is_valid_if_international, domain.split("."))):
        return f"{_NOT_ENCODED} {_CURE}"
    return ""


def describe_uri_problem(text: str) -> str:
    """Return what to do about a text that is no URI."""
    if text != text.strip():
        return "It has spaces around it: use url.strip()."
    if text.startswith("/"):
        return "A path without a host: use request.build_absolute_uri(url)."
    if not text:
        return "Empty: leave it out if there is none."
    if "://" not in text:
        return "Not an absolute URI: begin with https:// and the name of the host."
    return (
        "Not an absolute URI: percent-encode special characters, "
        'such as with urllib.parse.quote(url, safe="%/:?#@!$&\'()*+,;=").'
    )


_CURE = "Leave email out; id is enough."
_NOT_ENCODED = "The international name after the @ is not valid. idna.encode(domain) returns the valid form."


def _describe_form(text: str) -> str:
    """Return the usual mistake in a text that has not the form of an address."""
    if remedy := _remedy_of(text):
        return f"{remedy}, or leave email out; id is enough."
    local, _, domain = text.rpartition("@")
    if not text.strip():
        return f"Empty. {_CURE}"
    if not domain or not local:
        return f"Not an e-mail address, because it has no @ with text on both sides. {_CURE}"
    if text.startswith('"') or text.endswith("]"):
        words = (
            "Quoted names and address literals such as [192.0.2.1] are not sent: many validators refuse them."
        )
        return f"{words} {_CURE}"
    return (
        f"Not an e-mail address{'' if local.isascii() else ', because it is not ASCII before the @'}. {_CURE}"
    )


def _remedy_of(text: str) -> str:
    """Return how to make an address of a text; empty if that is not known."""
    if not text.strip():
        return ""
    if text != text.strip():
        return "It has spaces around it: use email.strip()"
    if "<" in text:
        return "An address with a display name: email.utils.parseaddr(value) splits it into name and email"
    if text.lower().startswith("mailto:"):
        return "A URI: remove mailto:"
    if text.startswith('"') or text.endswith("]"):
        return ""
    if "," in text or ";" in text or text.count("@") > 1:
        return "More than one address: add a participant for each"
    if text.rpartition("@")[0].isascii() and not text.isascii():
        return "An international name after the @: write it as idna.encode(domain) returns it"
    return ""


def _is_dot_string(text: str) -> bool:
    return bool(_compile(_LOCAL).fullmatch(text))


def _is_domain(text: str) -> bool:
    return bool(_compile(rf"{_LABEL}(?:\.{_LABEL})*").fullmatch(text))


_compile = cache(re.compile)  # at the first use, because each process of the host imports this module


def _is_valid_if_international(label: str) -> bool:
    """Return whether a label is no international one, or a valid one in lower case."""
    if label[2:4] != "--":
        return True
    if not label.startswith("xn--"):
        return False
    import idna

    try:
        idna.ulabel(label)
    except (idna.IDNAError, UnicodeError):
        return False
    return True
