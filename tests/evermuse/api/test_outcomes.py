"""Every answer becomes exactly one outcome, and only what the contract describes becomes a success."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermuse_outbox.evermuse.api import (
    Accepted,
    Answer,
    InDoubt,
    KeyRefused,
    Outcome,
    RecordError,
    Refused,
    Throttled,
    TooLarge,
    Unavailable,
    classify_send,
    read_page,
    read_status,
)

GOOD = {"batchId": "b1", "acceptedCount": 2, "rejectedCount": 1, "totalErrorCount": 1}
ERROR = {"index": 1, "code": "VALIDATION_ERROR", "message": "no"}


def answer(status, body):
    return Answer(status, body if isinstance(body, bytes) else json.dumps(body).encode(), 0.1)


def test_a_202_as_documented():
    outcome = classify_send(answer(202, GOOD | {"errors": [ERROR]}), 3)
    assert outcome == Accepted("b1", 2, 1, 1, (RecordError(1, "VALIDATION_ERROR", "no"),))


BENT = [
    b"",
    b"<html>",
    b"\xff",
    b"[" * 100_000,
    [],
    GOOD | {"acceptedCount": 3},
    GOOD | {"acceptedCount": "2"},
    GOOD | {"acceptedCount": True, "rejectedCount": 2},
    GOOD | {"acceptedCount": -1, "rejectedCount": 4},
    GOOD | {"batchId": None},
    GOOD | {"batchId": ""},
    GOOD | {"batchId": "x" * 129},
    GOOD | {"batchId": "a\0b"},
    GOOD | {"totalErrorCount": 1.5},
]


@pytest.mark.parametrize("body", BENT)
def test_a_202_that_is_not_as_documented_is_in_doubt(body):
    assert isinstance(classify_send(answer(202, body), 3), InDoubt)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Refused),
        (401, KeyRefused),
        (403, KeyRefused),
        (413, TooLarge),
        (422, Refused),
        (429, Throttled),
        (500, InDoubt),
        (503, InDoubt),
        (599, InDoubt),
        (302, Unavailable),
        (404, Unavailable),
        (405, Unavailable),
    ],
)
def test_each_status_has_its_outcome_whatever_the_body(status, kind):
    for body in ({"error": "E", "message": "said"}, b"<html>", [], b""):
        outcome = classify_send(answer(status, body), 1)
        # Evermuse refuses records in JSON; other words come from somebody on the way.
        expected = Unavailable if kind is Refused and not isinstance(body, dict) else kind
        assert isinstance(outcome, expected)
        assert str(status) in outcome.message


@pytest.mark.parametrize(
    "place",
    [
        {"errors": [ERROR]},
        {"details": {"errors": [ERROR]}},
        {"details": [ERROR]},
        {"details": {"rejectedCount": 1, "records": [ERROR]}},
        {"errors": [], "details": {"errors": [ERROR]}},
        {"errors": ["no"], "details": [ERROR]},
        {"errors": {"1": "no"}, "details": {"hints": ["no"], "errors": [ERROR]}},
    ],
)
def test_errors_of_a_400_are_found_wherever_they_stand(place):
    outcome = classify_send(answer(400, {"error": "E", "message": "m"} | place), 3)
    assert outcome.errors == (RecordError(1, "VALIDATION_ERROR", "no"),)


@pytest.mark.parametrize(
    ("said", "obeyed"),
    [
        (2, 2.0),
        (0.5, 0.5),
        (1e300, 1e9),
        (10**400, 1e9),
        (-(10**400), 1.0),
        (5e-324, 5e-324),
        (0, 1.0),
        (-5, 1.0),
        ("9", 1.0),
        (None, 1.0),
        (True, 1.0),
        ([], 1.0),
        ({"seconds": 9}, 1.0),
    ],
    ids=lambda value: str(value)[:12],
)
def test_retry_after_is_a_sane_number_whatever_is_said(said, obeyed):
    assert classify_send(answer(429, {"retryAfter": said}), 1).retry_after == obeyed


@pytest.mark.parametrize("said", ["NaN", "Infinity", "-Infinity"])
def test_retry_after_that_is_no_number(said):
    outcome = classify_send(answer(429, b'{"retryAfter": %s}' % said.encode()), 1)
    assert 0 < outcome.retry_after <= 1e9


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
FIELDS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        [*GOOD, "errors", "details", "message", "error", "retryAfter", "status", "batches", "nextCursor"],
        JSON,
    ),
)


@given(st.integers(100, 999), FIELDS | JSON, st.integers(1, 1000))
def test_no_answer_whatsoever_is_without_an_outcome(status, body, sent):
    given_answer = answer(status, body)
    outcome = classify_send(given_answer, sent)
    assert isinstance(outcome, Outcome)
    assert not isinstance(outcome, Accepted) or outcome.accepted + outcome.rejected == sent
    read_status(given_answer)
    read_page(given_answer)


def test_a_page_skips_what_it_cannot_read_and_keeps_the_rest():
    status = GOOD | {"status": "COMPLETE", "createdAt": 1709282096000}
    page = read_page(answer(200, {"batches": [None, status, {}], "nextCursor": "c"}))
    assert [one.remote_id for one in page.statuses] == ["b1"]
    assert page.next_cursor == "c"


@pytest.mark.parametrize(
    "created",
    [10**400, -(10**400), float("nan"), float("inf"), True, "now", -1, {}],
    ids=lambda value: str(value)[:12],
)
def test_a_moment_that_no_clock_can_show_is_left_out(created):
    page = read_page(answer(200, {"batches": [GOOD | {"status": "COMPLETE", "createdAt": created}]}))
    assert page.statuses[0].created_at is None


def test_a_page_is_read_no_further_than_it_may_be_long():
    status = GOOD | {"status": "COMPLETE"}
    page = read_page(answer(200, {"batches": [status] * 5_000, "nextCursor": None}))
    assert len(page.statuses) == 100


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 10_000, b'{"retryAfter": ' + b"9" * 10_000 + b"}"]
)
@pytest.mark.parametrize("status", [200, 202, 400, 401, 413, 429, 500])
def test_what_json_cannot_hold_is_no_trouble(status, body):
    spoiled = answer(status, body)
    assert str(status) in classify_send(spoiled, 1).message
    assert read_page(spoiled) is None
    assert read_status(spoiled) is None
