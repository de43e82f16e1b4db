"""Loggers: each record is one line without secrets, and an exception is a class, a code and a stack."""

from __future__ import annotations

import logging

import pytest
from hypothesis import HealthCheck, given, settings

from evermuse_outbox.foreign_text import gate_logs_of, get_logger, log_ids
from tests.foreign_text.samples import KEY, TEXTS, is_printable_line

logger = get_logger("evermuse_outbox.test")


@given(TEXTS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_value_cannot_forge_a_line(caplog, text):
    caplog.clear()
    logger.warning("value %s", f"{text}{KEY}")
    logger.warning("mapping %(text)s", {"text": text})
    for record in caplog.records:
        assert is_printable_line(record.getMessage())
        assert KEY[6:14] not in record.getMessage()


def test_numbers_keep_their_type_and_the_template_stays(caplog):
    logger.warning("%d of %.1f, %s", 3, 2.5, "a\nb")
    (record,) = caplog.records
    assert (record.msg, record.args) == ("%d of %.1f, %s", (3, 2.5, "a b"))


@pytest.mark.parametrize("message", [ValueError("payload"), "payload"])
def test_an_exception_is_logged_without_its_text(caplog, message):
    error = ValueError("payload")
    try:
        raise error
    except ValueError:
        logger.exception("failed: %s", error)
    logger.error(error)
    for record in caplog.records:
        assert "payload" not in logging.Formatter().format(record)
        assert "ValueError" in record.getMessage()
    assert "test_logs.py" in caplog.records[0].exc_text
    assert caplog.records[0].exc_info is None


def test_a_logger_has_the_gate_once():
    assert get_logger("evermuse_outbox.test") is logger
    assert len(logger.filters) == 1


def test_a_logger_of_another_package_has_the_gate_inside_of_our_calls_only(caplog):
    other = logging.getLogger("urllib3.connection")
    with gate_logs_of("urllib3.connection"):
        other.warning("inside %s", ValueError("payload\n"))
    other.warning("outside %s", ValueError("payload\n"))
    assert [record.getMessage() for record in caplog.records] == ["inside ValueError", "outside payload\n"]


def test_ids_for_structured_logs_pass_the_gate_and_missing_ones_are_left_out():
    ids = log_ids(workspace="eu\n", batch=7, group=None, outcome="accepted")
    assert ids == {"workspace": "eu ", "batch": 7, "outcome": "accepted"}
