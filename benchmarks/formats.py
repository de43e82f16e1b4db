"""Decisions and speed of the checks of e-mail addresses and URIs, compared with libraries for the same formats.

    pip install email-validator     # optional: without it, its rows are left out.
    python -m benchmarks formats

The first table has validated records per second of CPU time. The record has three participants and one attachment.
The second table has every sample on which a library and ``validate`` decide differently.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import time
import timeit
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from .common.options import parser_of
from .common.records import record
from .common.report import Report

Check = Callable[[str], Any]

URIS = (
    "https://files.example.com/a%20b/1.mp3?token=abc#x",
    "https://u:p@[2001:db8::1]:8443/a",
    "s3://bucket/key",
    "urn:isbn:0451450523",
    "https://example.com/a b",
    "https://example.com/é",
    "https://example.com/%2",
    "https://example.com/a?b#c#d",
    "https://example.com/a\n",
    "http://[1:2:3:4:5:6:7:8:9]/",
    "/relative/path",
)
EMAILS = (
    "ann.o'neil+x@mail.example.com",
    "ann@b",
    "ann@localhost",
    "ann@host.local",
    "ann@example.test",
    "Ann <ann@example.com>",
    "ünn@example.com",
    "ann@ünn.com",
    "a" * 65 + "@example.com",
    "ann@example.com\n",
    "ann@@example.com",
)


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    options = _options(arguments)
    report = Report(options.name, vars(options))
    libraries = _libraries()
    for package in ("pydantic", "email-validator"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            report.service(package, importlib.metadata.version(package))
    report.table(
        "Validated records per second", ["checks", "records/s"], [*_speeds(libraries, options.calls)]
    )
    differences = [*_differences(libraries)]
    report.table("Different decisions", ["library", "sample", "validate", "library says"], differences)
    report.save()


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("formats", __doc__)
    parser.add_argument(
        "--calls", type=int, default=3_000, help="calls of validate in each of 7 rounds (default: 3000)"
    )
    return parser.parse_args(arguments)


def _libraries() -> dict[str, tuple[str, Check]]:
    """Return {name: (field, check)} of the installed libraries."""
    from pydantic_core import SchemaValidator, core_schema

    checks: dict[str, tuple[str, Check]] = {
        "pydantic AnyUrl": (
            "vendor_url",
            SchemaValidator(core_schema.url_schema(max_length=2_048)).validate_python,
        )
    }
    with contextlib.suppress(ImportError):
        from email_validator import validate_email

        checks["email-validator"] = ("email", lambda text: validate_email(text, check_deliverability=False))
    return checks


def _speeds(libraries: dict[str, tuple[str, Check]], calls: int) -> Iterator[tuple[str, str]]:
    yield "validate", _speed(calls)
    for name, (field, check) in libraries.items():
        with _replaced(field, check):
            yield f"validate with {name}", _speed(calls)


def _speed(calls: int) -> str:
    from evermuse_outbox.evermuse.records import validate

    sample = record(1) | {
        "_participants": [
            {"id": f"user-{number}", "role": "external", "email": f"ann{number}@mail.example.com"}
            for number in range(3)
        ],
        "_attachments": [{"type": "audio", "vendor_url": URIS[0]}],
    }
    rounds = timeit.repeat(
        lambda: validate(sample, contract="reference"), number=calls, repeat=7, timer=time.process_time
    )
    seconds = min(rounds)
    return f"{calls / seconds:,.0f}"


@contextlib.contextmanager
def _replaced(field: str, check: Check) -> Iterator[None]:
    """Check ``field`` with a library instead, in this process."""
    from pydantic_core import core_schema

    from evermuse_outbox.evermuse.records import schema, validation

    def checked(text: str) -> str:
        check(text)
        return text

    name = {"vendor_url": "ATTACHMENT", "email": "PARTICIPANT"}[field]
    rule = schema.Rule(core_schema.no_info_after_validator_function(checked, core_schema.str_schema()), "")
    changed = schema.closed(**(getattr(schema, name).members | {field: rule}))
    caches = (schema.rules, schema.checker, validation._checker)
    for cache in caches:
        cache.cache_clear()
    with mock.patch.object(schema, name, changed):
        yield
    for cache in caches:
        cache.cache_clear()


def _differences(libraries: dict[str, tuple[str, Check]]) -> Iterator[tuple[str, str, str, str]]:
    from pydantic_core import SchemaValidator

    from evermuse_outbox.evermuse.records import schema

    members = schema.ATTACHMENT.members | schema.PARTICIPANT.members
    for name, (field, check) in libraries.items():
        ours = SchemaValidator(members[field].schema).validate_python
        for sample in URIS if field == "vendor_url" else EMAILS:
            decisions = _accepts(ours, sample), _accepts(check, sample)
            if decisions[0] != decisions[1]:
                yield (
                    name,
                    repr(sample),
                    *("accepted" if accepted else "rejected" for accepted in decisions),
                )


def _accepts(check: Check, text: str) -> bool:
    try:
        check(text)
    except ValueError:
        return False
    return True
