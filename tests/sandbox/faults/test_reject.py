"""Faults that reject records of a request, and faults that last for a time, over HTTP."""

from __future__ import annotations

import json

import pytest

from evermuse_outbox.sandbox import Fault

from ..conftest import BATCHES, Client
from ..published import record


def mail(number: int, **fields):
    """Return a valid record with the vendor id ``m-NUMBER``."""
    return record(_vendor_ids={"id": f"m-{number}"}, **fields)


def ids(sandbox):
    return [stored.identity.vendor_ids[0][1] for stored in sandbox.records()]


@pytest.mark.parametrize(
    "which",
    [1, "m-1", {"_vendor_ids.id": "m-1"}, lambda value: value["_vendor_ids"]["id"] == "m-1"],
)
@pytest.mark.parametrize("form", ["post", "post_lines"])
def test_a_selected_record_is_rejected_and_the_others_are_accepted(sandbox, client, which, form):
    sandbox.reject_record(which, "not today", code="BLOCKED")
    response = getattr(client, form)([mail(0), mail(1), mail(2)])
    assert response.status_code == 202
    assert response.json()["errors"] == [{"index": 1, "code": "BLOCKED", "message": "not today"}]
    assert (response.json()["acceptedCount"], response.json()["rejectedCount"]) == (2, 1)
    assert ids(sandbox) == ["m-0", "m-2"]
    assert sandbox.arrivals[0].fault is not None
    assert client.status(response.json()["batchId"])["rejectedCount"] == 1


def test_a_position_is_rejected_once_and_a_vendor_id_always(sandbox, client):
    sandbox.reject_record(0)
    sandbox.reject_record("m-1")
    rejected = [client.post([mail(0), mail(1), mail(2)]).json()["rejectedCount"] for _ in range(3)]
    assert rejected == [2, 1, 1]


def test_a_request_without_the_record_does_not_consume_the_fault(sandbox, client):
    sandbox.reject_record(2)
    sandbox.reject_record("m-9", count=1)
    assert client.post([mail(0), mail(1)]).json()["rejectedCount"] == 0
    assert client.post([mail(0), mail(1), mail(2)]).json()["rejectedCount"] == 1
    assert client.post([mail(9), mail(1)]).json()["rejectedCount"] == 1
    assert sandbox.waiting_faults() == []


def test_a_request_with_rejected_records_only_is_refused(sandbox, client):
    sandbox.reject_record("m-0", "no")
    response = client.post([mail(0)])
    assert response.status_code == 400
    assert response.json()["details"]["errors"][0]["message"] == "no"


def test_a_strict_sandbox_refuses_the_request(serve):
    sandbox = serve(strict=True)
    sandbox.reject_record("m-0")
    assert Client(sandbox).post([mail(0), mail(1)]).status_code == 400
    assert sandbox.violations == []


def test_a_repeated_request_gets_the_first_response_again(sandbox, client):
    sandbox.reject_record(0)
    responses = [client.post([mail(0), mail(1)], headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert responses[0].json() == responses[1].json()


def test_another_fault_can_affect_the_same_request(sandbox, client):
    sandbox.reject_record("m-0")
    sandbox.fail_next(Fault.server_error(after_handling=True))
    assert client.post([mail(0), mail(1)]).status_code == 500
    assert ids(sandbox) == ["m-1"]


def test_a_function_may_use_the_sandbox(sandbox, client):
    sandbox.reject_record(lambda _: not sandbox.records())
    assert client.post([mail(0)]).status_code == 400


def test_type_and_product_select_requests(sandbox, client):
    sandbox.fail_next(status=503, type="Email", count=None)
    sandbox.fail_next(status=402, product_id="p-2", count=None)
    email = {"has_published_shape": False}
    assert client.post([record()]).status_code == 202
    assert client.post([record(_type="email")], **email).status_code == 503
    assert client.post_lines([record(_type="email")], **email).status_code == 503
    assert client.post({"records": [record(_product_id="p-2")]}, **email).status_code == 402
    assert client.post(b"[", **email).status_code == 400


def test_a_429_for_some_seconds_sends_the_rest_of_the_time(sandbox, client, clock):
    sandbox.fail_for(10, status=429)
    assert client.post([record()]).json()["retryAfter"] == 10
    clock.advance(7.5)
    assert client.post([record()]).json()["retryAfter"] == 2.5
    clock.advance(2.5)
    assert client.post([record()]).status_code == 202
    assert sandbox.waiting_faults() == []
    assert sandbox.violations == []


def test_a_waiting_fault_is_shown_and_can_be_removed(sandbox, client):
    number = sandbox.fail_next(status=500, count=3)
    other = sandbox.fail_next(status=500, on="GET")
    client.post([record()])
    (first, second) = sandbox.waiting_faults()
    assert (first.id, first.remaining, first.affected, second.id) == (number, 2, 1, other)
    assert sandbox.remove_fault(number)
    assert not sandbox.remove_fault(number)
    assert client.post([record()]).status_code == 202
    assert client.send("GET", BATCHES).status_code == 500


def test_the_number_of_waiting_faults_is_limited(sandbox):
    for _ in range(1_000):
        sandbox.fail_next(status=500)
    with pytest.raises(ValueError, match="clear them"):
        sandbox.fail_next(status=500)


@pytest.mark.parametrize(
    "fields",
    [
        {"reject": 0, "status": 500},
        {"reject": 0, "drop": True},
        {"reject": 0, "delay": 1},
        {"reject": -1},
        {"reject": True},
        {"reject": 0, "on": "GET"},
        {"status": 100},
        {"delay": float("nan")},
        {"status": 429, "retry_after": -1},
        {"status": 500, "on": "PUT"},
        {"status": 500, "on": "GET", "type": "email"},
    ],
)
def test_values_that_make_no_sense_are_an_error(fields):
    with pytest.raises(ValueError, match=r"must|cannot|GET"):
        Fault(**fields)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_time_must_be_positive(sandbox, seconds):
    with pytest.raises(ValueError, match="seconds"):
        sandbox.fail_for(seconds, status=500)


def test_a_body_that_is_no_json_meets_no_fault_with_a_type(sandbox, client):
    sandbox.fail_next(status=500, type="message")
    for body in (b"\xff", b"[]", b"1", b"", json.dumps([[]]).encode(), b"[" * 100_000):
        assert client.post(body).status_code == 400
    assert client.post([record()]).status_code == 500
