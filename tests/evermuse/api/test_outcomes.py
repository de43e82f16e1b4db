"""Each answer becomes one outcome, and only a documented success becomes an acceptance."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermuse_outbox.evermuse import Unanswered, Unreachable
from evermuse_outbox.evermuse.api import (
    Accepted,
    Answer,
    InDoubt,
    KeyRefused,
    NoCredits,
    Outcome,
    RecordError,
    Refused,
    Throttled,
    TooLarge,
    Unavailable,
    classify_read,
    classify_send,
    classify_transport_error,
    read_error_envelope,
    read_page,
    read_retry_after,
    read_status,
)

GOOD = {"batchId": "b1", "acceptedCount": 2, "rejectedCount": 1, "totalErrorCount": 1}
ERROR = {"index": 1, "code": "VALIDATION_ERROR", "message": "no"}


def answer(status, body):
    return Answer(status, body if isinstance(body, bytes) else json.dumps(body).encode(), 0.1)


def test_a_documented_202_is_accepted():
    outcome = classify_send(answer(202, GOOD | {"errors": [ERROR]}), 3)
    assert outcome == Accepted("b1", 2, 1, 1, (RecordError(1, "VALIDATION_ERROR", "no"),))


MALFORMED = [
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


@pytest.mark.parametrize("body", MALFORMED)
def test_a_malformed_202_is_in_doubt(body):
    assert isinstance(classify_send(answer(202, body), 3), InDoubt)


ENVELOPE = {"error": "E", "message": "text"}
NO_ENVELOPES = [
    b"<html>403</html>",
    b"",
    [],
    {},
    {"message": "Forbidden"},
    {"error": "E"},
    {"error": 4, "message": None},
]
"""Bodies of proxies and firewalls: pages, and JSON that is not the error envelope of the contract."""


@pytest.mark.parametrize(
    ("status", "by_evermuse", "by_proxy"),
    [
        (401, KeyRefused, Unavailable),
        (402, NoCredits, Unavailable),
        (403, KeyRefused, Unavailable),
        (404, Unavailable, Unavailable),
        (405, Unavailable, Unavailable),
        (409, Unavailable, Unavailable),
        (413, TooLarge, TooLarge),
        (429, Throttled, Unavailable),
        (302, Unavailable, Unavailable),
        (500, InDoubt, InDoubt),
        (502, InDoubt, InDoubt),
        (599, InDoubt, InDoubt),
    ],
)
def test_only_the_error_envelope_is_an_answer_of_evermuse(status, by_evermuse, by_proxy):
    outcome = classify_send(answer(status, ENVELOPE), 1)
    assert (type(outcome), outcome.message) == (by_evermuse, f"HTTP {status}: text")
    for body in NO_ENVELOPES:
        outcome = classify_send(answer(status, body), 1)
        assert type(outcome) is by_proxy
        assert str(status) in outcome.message


@pytest.mark.parametrize("status", [400, 422])
def test_a_bad_request_is_a_refusal_only_in_json(status):
    for body in (ENVELOPE, {}, {"errors": [ERROR]}):
        assert isinstance(classify_send(answer(status, body), 1), Refused)
    for body in (b"<html>", b"", []):
        assert classify_send(answer(status, body), 1) == Unavailable(
            f"HTTP {status} without a JSON body: probably the answer of a proxy or firewall", status
        )


@pytest.mark.parametrize(
    ("status", "kind"), [(404, Unavailable), (409, Unavailable), (500, InDoubt), (502, InDoubt)]
)
def test_a_failure_with_an_answer_has_its_status(status, kind):
    outcome = classify_send(answer(status, ENVELOPE), 1)
    assert isinstance(outcome, kind)
    assert outcome.status == status


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
def test_record_errors_are_read_from_each_place_of_a_400(place):
    outcome = classify_send(answer(400, {"error": "E", "message": "m"} | place), 3)
    assert outcome.errors == (RecordError(1, "VALIDATION_ERROR", "no"),)


@pytest.mark.parametrize(
    ("value", "seconds"),
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
def test_any_value_of_retry_after_gives_a_usable_number(value, seconds):
    assert classify_send(answer(429, ENVELOPE | {"retryAfter": value}), 1).retry_after == seconds


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_a_retry_after_that_is_not_finite_gives_a_usable_number(value):
    outcome = classify_send(
        answer(429, b'{"error": "E", "message": "m", "retryAfter": %s}' % value.encode()), 1
    )
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
def test_every_answer_has_an_outcome(status, body, sent):
    given_answer = answer(status, body)
    outcome = classify_send(given_answer, sent)
    assert isinstance(outcome, Outcome)
    assert not isinstance(outcome, Accepted) or outcome.accepted + outcome.rejected == sent
    has_envelope = read_error_envelope(given_answer) is not None
    assert has_envelope or not isinstance(outcome, KeyRefused | NoCredits | Throttled)
    read_status(given_answer)
    read_page(given_answer)


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 10_000, b'{"retryAfter": ' + b"9" * 10_000 + b"}"]
)
@pytest.mark.parametrize("status", [200, 202, 400, 401, 413, 429, 500])
def test_json_that_python_cannot_parse_has_an_outcome(status, body):
    unparsable = answer(status, body)
    assert str(status) in classify_send(unparsable, 1).message
    assert read_page(unparsable) is None
    assert read_status(unparsable) is None


@pytest.mark.parametrize(("status", "seconds"), [(429, 7.0), (202, None), (400, None), (503, None)])
def test_only_a_429_asks_to_wait(status, seconds):
    assert read_retry_after(answer(status, ENVELOPE | {"retryAfter": 7})) == seconds


def test_a_429_without_a_time_asks_for_the_window_of_the_limit():
    assert read_retry_after(answer(429, ENVELOPE)) == 1.0


def test_a_429_of_a_proxy_does_not_ask_to_wait():
    for body in NO_ENVELOPES:
        assert read_retry_after(answer(429, body)) is None


@pytest.mark.parametrize("status", [200, 429, 404, 500])
def test_a_read_succeeds_only_with_200(status):
    kind = {429: Throttled, 404: Unavailable, 500: InDoubt}.get(status, type(None))
    assert isinstance(classify_read(answer(status, GOOD | ENVELOPE)), kind)


def test_a_call_without_an_answer_is_in_doubt_unless_nothing_was_sent():
    assert classify_transport_error(Unreachable("refused")) == Unavailable("refused")
    assert classify_transport_error(Unanswered("reset")) == InDoubt("reset")
