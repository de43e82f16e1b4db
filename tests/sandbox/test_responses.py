"""Responses, and errors in the published envelope."""

from __future__ import annotations

import json

import pytest

from evermuse_outbox.sandbox.responses import (
    VALIDATION_ERROR,
    RequestRefused,
    Response,
    encode_json,
    error_code,
)

from .published import RESPONSE_SCHEMAS


def test_json_is_compact_utf8():
    assert encode_json({"a": ["é", 1, None]}) == '{"a":["é",1,null]}'.encode()


def test_a_lone_surrogate_cannot_be_encoded():
    with pytest.raises(UnicodeEncodeError):
        encode_json({"a": "\ud83d"})


def test_a_response_is_json_by_default():
    response = Response.with_json(202, {"batchId": "b"})
    assert (response.status, response.body) == (202, b'{"batchId":"b"}')
    assert response.headers == {"Content-Type": "application/json"}
    assert not response.closes_connection


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "UNAUTHORIZED"), (429, "RATE_LIMITED"), (500, "INTERNAL_ERROR"), (502, "HTTP_502")],
)
def test_each_status_has_an_error_code(status, code):
    assert error_code(status) == code


def test_a_refusal_has_the_published_envelope():
    refusal = RequestRefused(429, "Too many.", extra={"retryAfter": 0.5}, closes_connection=True)
    response = refusal.to_response()
    content = json.loads(response.body)
    RESPONSE_SCHEMAS["error"].validate(content)
    assert content == {"error": "RATE_LIMITED", "message": "Too many.", "retryAfter": 0.5}
    assert (response.status, response.closes_connection) == (429, True)


@pytest.mark.parametrize(
    ("status", "breaks"),
    [
        (400, True),
        (405, True),
        (409, True),
        (413, True),
        (429, True),
        (401, False),
        (403, False),
        (404, False),
    ],
)
def test_only_a_defect_of_the_client_breaks_the_contract(status, breaks):
    assert RequestRefused(status, "no").breaks_contract is breaks


def test_invalid_records_do_not_break_the_contract():
    assert not RequestRefused(400, "no", error=VALIDATION_ERROR).breaks_contract
