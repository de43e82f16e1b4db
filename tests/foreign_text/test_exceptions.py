"""Descriptions of exceptions: complete for the attempt log, without foreign text for a log."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError

from evermuse_outbox.evermuse import FieldError, InvalidRecord, Unanswered
from evermuse_outbox.foreign_text import describe_error, error_code, summarise_error
from evermuse_outbox.foreign_text.exceptions import format_traceback


class Hostile(Exception):
    def __str__(self):
        raise RuntimeError


def test_a_description_has_class_and_text():
    assert describe_error(ValueError("a\nb\x1b em_sk_abc")) == "ValueError: a b\ufffd em_sk_…"
    assert describe_error(Hostile()) == "Hostile: (no text)"
    assert len(describe_error(ValueError("x" * 1_000))) == 300


@pytest.mark.parametrize(
    ("error", "summary"),
    [
        (ValueError("payload"), "ValueError"),
        (OSError(104, "payload"), "ConnectionResetError (104)"),
        (IntegrityError(1062, "Duplicate entry 'payload'"), "IntegrityError (1062)"),
        (InvalidRecord([FieldError("a", "payload", "payload", "text")]), "InvalidRecord"),
        (Unanswered("TimeoutError: no answer"), "TimeoutError: no answer"),
        (ImproperlyConfigured("No workspace 'x'"), "No workspace 'x'"),
        (Hostile(), "Hostile"),
        (KeyError(10**5_000), "KeyError"),
    ],
    ids=lambda value: "value",
)
def test_a_summary_for_a_log_has_only_our_text(error, summary):
    assert summarise_error(error) == summary


def test_the_code_of_a_hostile_exception_is_empty():
    class Broken(Exception):
        def __getattribute__(self, name):
            raise RuntimeError

    assert error_code(Broken()) == ""


def test_a_traceback_has_the_stack_and_no_text():
    try:
        try:
            raise ValueError("payload")
        except ValueError as cause:
            raise RuntimeError("payload") from cause
    except RuntimeError as error:
        text = format_traceback(error)
    assert "payload" not in text.replace('("payload")', "")
    assert text.count("in test_a_traceback_has_the_stack_and_no_text") == 2
    assert text.endswith("ValueError")


def test_a_chain_that_contains_itself_ends():
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert format_traceback(first).count("Traceback") == 2
