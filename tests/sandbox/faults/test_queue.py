"""Injected faults, over HTTP."""

from __future__ import annotations

import contextlib

import pytest
import requests

from evermuse_outbox.sandbox import Fault

from ..conftest import BATCHES, Client
from ..published import record


def test_an_error_replaces_the_response(sandbox, client):
    sandbox.fail_next(status=500, count=2)
    responses = [client.post([record()]) for _ in range(3)]
    assert [response.status_code for response in responses] == [500, 500, 202]
    assert responses[0].json()["error"] == "INTERNAL_ERROR"
    assert sandbox.records()[0].times == 1


def test_an_error_can_follow_the_processing(sandbox, client):
    sandbox.fail_next(Fault.server_error(after_handling=True))
    assert client.post([record()]).status_code == 500
    assert sandbox.records()[0].times == 1


def test_a_bad_gateway_responds_with_html(sandbox, client):
    sandbox.fail_next(Fault.bad_gateway())
    response = client.post([record()], has_published_shape=False)
    assert (response.status_code, response.headers["Content-Type"]) == (502, "text/html")


def test_a_page_of_a_proxy_is_html_without_the_error_envelope(sandbox, client):
    sandbox.fail_next(Fault.proxy_page(404, on="GET"))
    response = client.send("GET", BATCHES, has_published_shape=False)
    assert (response.status_code, response.headers["Content-Type"]) == (404, "text/html")
    assert response.text.startswith("<html>")


def test_without_credits_the_response_is_a_402_with_the_error_envelope(sandbox, client):
    sandbox.fail_next(Fault.no_credits())
    response = client.post([record()], has_published_shape=False)
    assert response.status_code == 402
    assert {"error", "message"} <= set(response.json())
    assert sandbox.records() == []


def test_a_fault_can_affect_only_requests_that_contain_a_text(sandbox, client):
    sandbox.fail_next(Fault.server_error(containing="forbidden text"), count=None)
    assert client.post([record()]).status_code == 202
    request = {"message": "forbidden text"}
    response = client.session.post(
        f"{sandbox.url}/api/v1/ingest", headers={"x-api-key": client.key}, json=request, timeout=5
    )
    assert response.status_code == 500
    assert client.post([record()]).status_code == 202


def test_a_fault_can_set_status_headers_and_body(sandbox, client):
    sandbox.fail_next(status=302, headers={"Location": "/login"}, body={"a": 1})
    response = client.session.post(
        f"{sandbox.url}/api/v1/ingest", headers={"x-api-key": client.key}, allow_redirects=False, timeout=5
    )
    assert (response.status_code, response.headers["Location"], response.json()) == (302, "/login", {"a": 1})
    sandbox.fail_next(status=200, body=b"\xff")
    assert client.post([record()], has_published_shape=False).content == b"\xff"


@pytest.mark.parametrize(("fault", "times"), [(Fault.drop_before(), 0), (Fault.drop_after(), 1)])
def test_a_dropped_connection_has_no_response(sandbox, client, fault, times):
    sandbox.fail_next(fault)
    with pytest.raises(requests.ConnectionError):
        client.post([record()])
    assert sum(stored.times for stored in sandbox.records()) == times
    assert (sandbox.arrivals[0].status, sandbox.arrivals[0].fault) == (None, fault)
    assert client.post([record()]).status_code == 202


def test_a_repeated_request_gets_the_lost_response(sandbox, client):
    sandbox.fail_next(Fault.drop_after())
    key = {"Idempotency-Key": "k"}
    with pytest.raises(requests.ConnectionError):
        client.post([record()], headers=key)
    assert client.post([record()], headers=key).json()["batchId"] == sandbox.batches()[0].id
    assert sandbox.records()[0].times == 1


def test_garbage_is_a_202_that_cannot_be_parsed(sandbox, client):
    sandbox.fail_next(Fault.garbage())
    response = client.post([record()], has_published_shape=False)
    assert response.status_code == 202
    with pytest.raises(ValueError, match=r"."):
        response.json()
    assert len(sandbox.batches()) == 1


def test_an_injected_429_is_no_violation(sandbox, client, clock):
    sandbox.fail_next(Fault.too_many(3.5))
    assert client.post([record()]).json()["retryAfter"] == 3.5
    clock.advance(3.4)
    client.post([record()])
    clock.advance(0.2)
    client.post([record()])
    assert [arrival.ignores_retry_after for arrival in sandbox.arrivals] == [False, True, False]
    assert sandbox.violations == []


@pytest.mark.parametrize(
    ("fault", "batches"), [(Fault.slow(0.5), 1), (Fault(delay=0.5), 0), (Fault(delay=0.5, status=500), 0)]
)
def test_a_delay_comes_before_or_after_the_processing(sandbox, fault, batches):
    sandbox.fail_next(fault)
    with pytest.raises(requests.ReadTimeout):
        requests.post(
            f"{sandbox.url}/api/v1/ingest",
            json=[record()],
            headers={"x-api-key": "em_sk_sandbox"},
            timeout=0.2,
        )
    assert len(sandbox.batches()) == batches


def test_a_stop_does_not_wait_for_a_delayed_response(serve):
    sandbox = serve()
    sandbox.fail_next(Fault.slow(60))
    with pytest.raises(requests.ReadTimeout):
        Client(sandbox).session.post(
            f"{sandbox.url}/api/v1/ingest",
            json=[record()],
            headers={"x-api-key": "em_sk_sandbox"},
            timeout=0.1,
        )
    sandbox.stop()  # ends the delay; otherwise it would wait for 60 seconds
    assert sandbox.arrivals[-1].fault


def test_a_fault_affects_only_its_method(sandbox, client):
    sandbox.fail_next(status=500, on="GET")
    assert client.post([record()]).status_code == 202
    assert client.send("GET", BATCHES).status_code == 500
    sandbox.fail_next(status=500, on="any", count=2)
    assert client.send("GET", BATCHES).status_code == 500
    assert client.post([record()]).status_code == 500
    assert client.send("GET", BATCHES).status_code == 200


def test_a_refused_request_does_not_consume_a_fault(sandbox, client):
    sandbox.fail_next(status=500)
    assert Client(sandbox, "em_sk_other").post([record()]).status_code == 401
    assert client.post([record()]).status_code == 500


def test_a_fault_without_a_count_lasts_until_it_is_cleared(sandbox, client):
    sandbox.fail_next(Fault.server_error(), count=None)
    assert {client.post([record()]).status_code for _ in range(5)} == {500}
    sandbox.clear_faults()
    assert client.post([record()]).status_code == 202


def test_random_faults_can_be_repeated(serve):
    def statuses():
        sandbox = serve(fail_percent=50, seed=7)
        client = Client(sandbox)
        for _ in range(40):
            with contextlib.suppress(requests.ConnectionError):
                client.send("GET", BATCHES, has_published_shape=False)
        return [arrival.status for arrival in sandbox.arrivals]

    first_run = statuses()
    assert first_run == statuses()
    assert {200, 429, 500, 502, None} == set(first_run)


@pytest.mark.parametrize(
    "fields",
    [
        {"drop": True, "status": 500},
        {"status": 500, "batch_fails": True},
        {"drop": True, "attachments_fail": 1},
    ],
)
def test_contradicting_attributes_are_an_error(sandbox, fields):
    with pytest.raises(ValueError, match=r"fault|batch"):
        sandbox.fail_next(**fields)


def test_a_count_of_zero_is_an_error(sandbox):
    with pytest.raises(ValueError, match="count"):
        sandbox.fail_next(status=500, count=0)
