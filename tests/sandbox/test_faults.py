"""Trouble on demand."""

from __future__ import annotations

import contextlib

import pytest
import requests

from evermuse_outbox.sandbox import Fault

from .conftest import BATCHES, Client
from .published import record


def test_an_error_in_place_of_an_answer(sandbox, client):
    sandbox.fail_next(status=500, count=2)
    seen = [client.post([record()]) for _ in range(3)]
    assert [response.status_code for response in seen] == [500, 500, 202]
    assert seen[0].json()["error"] == "INTERNAL_ERROR"
    assert sandbox.records()[0].times == 1


def test_an_error_after_it_took_effect(sandbox, client):
    sandbox.fail_next(Fault.server_error(after_handling=True))
    assert client.post([record()]).status_code == 500
    assert sandbox.records()[0].times == 1


def test_a_gateway_answers_in_html(sandbox, client):
    sandbox.fail_next(Fault.bad_gateway())
    response = client.post([record()], shaped=False)
    assert (response.status_code, response.headers["Content-Type"]) == (502, "text/html")


def test_any_answer_can_be_scripted(sandbox, client):
    sandbox.fail_next(status=302, headers={"Location": "/login"}, body={"a": 1})
    response = client.session.post(
        f"{sandbox.url}/api/v1/ingest", headers={"x-api-key": client.key}, allow_redirects=False, timeout=5
    )
    assert (response.status_code, response.headers["Location"], response.json()) == (302, "/login", {"a": 1})
    sandbox.fail_next(status=200, body=b"\xff")
    assert client.post([record()], shaped=False).content == b"\xff"


@pytest.mark.parametrize(("fault", "times"), [(Fault.drop_before(), 0), (Fault.drop_after(), 1)])
def test_no_answer_at_all(sandbox, client, fault, times):
    sandbox.fail_next(fault)
    with pytest.raises(requests.ConnectionError):
        client.post([record()])
    assert sum(stored.times for stored in sandbox.records()) == times
    assert (sandbox.arrivals[0].status, sandbox.arrivals[0].fault) == (None, fault)
    assert client.post([record()]).status_code == 202


def test_a_lost_answer_is_given_again(sandbox, client):
    sandbox.fail_next(Fault.drop_after())
    key = {"Idempotency-Key": "k"}
    with pytest.raises(requests.ConnectionError):
        client.post([record()], headers=key)
    assert client.post([record()], headers=key).json()["batchId"] == sandbox.batches()[0].id
    assert sandbox.records()[0].times == 1


def test_an_answer_that_cannot_be_read(sandbox, client):
    sandbox.fail_next(Fault.garbage())
    response = client.post([record()], shaped=False)
    assert response.status_code == 202
    with pytest.raises(ValueError, match=r"."):
        response.json()
    assert len(sandbox.batches()) == 1


def test_a_429_out_of_the_blue(sandbox, client, clock):
    sandbox.fail_next(Fault.too_many(3.5))
    assert client.post([record()]).json()["retryAfter"] == 3.5
    clock.pass_(3.4)
    client.post([record()])
    clock.pass_(0.2)
    client.post([record()])
    assert [arrival.ignores_retry_after for arrival in sandbox.arrivals] == [False, True, False]
    assert sandbox.violations == []


@pytest.mark.parametrize(
    ("fault", "taken"), [(Fault.slow(0.5), 1), (Fault(delay=0.5), 0), (Fault(delay=0.5, status=500), 0)]
)
def test_a_slow_answer(sandbox, fault, taken):
    sandbox.fail_next(fault)
    with pytest.raises(requests.ReadTimeout):
        requests.post(
            f"{sandbox.url}/api/v1/ingest",
            json=[record()],
            headers={"x-api-key": "em_sk_sandbox"},
            timeout=0.2,
        )
    assert len(sandbox.batches()) == taken


def test_stopping_does_not_wait_for_a_slow_answer(serve):
    sandbox = serve()
    sandbox.fail_next(Fault.slow(60))
    with pytest.raises(requests.ReadTimeout):
        Client(sandbox).session.post(
            f"{sandbox.url}/api/v1/ingest",
            json=[record()],
            headers={"x-api-key": "em_sk_sandbox"},
            timeout=0.1,
        )
    sandbox.stop()  # cuts the delay short, and would else wait for its end
    assert sandbox.arrivals[-1].fault


def test_faults_wait_for_their_method(sandbox, client):
    sandbox.fail_next(status=500, on="GET")
    assert client.post([record()]).status_code == 202
    assert client.ask("GET", BATCHES).status_code == 500
    sandbox.fail_next(status=500, on="any", count=2)
    assert client.ask("GET", BATCHES).status_code == 500
    assert client.post([record()]).status_code == 500
    assert client.ask("GET", BATCHES).status_code == 200


def test_a_refused_request_uses_up_no_fault(sandbox, client):
    sandbox.fail_next(status=500)
    assert Client(sandbox, "em_sk_other").post([record()]).status_code == 401
    assert client.post([record()]).status_code == 500


def test_an_outage_until_it_is_cleared(sandbox, client):
    sandbox.fail_next(Fault.server_error(), count=None)
    assert {client.post([record()]).status_code for _ in range(5)} == {500}
    sandbox.clear_faults()
    assert client.post([record()]).status_code == 202


def test_random_trouble_can_be_repeated(serve):
    def run():
        sandbox = serve(fail_percent=50, seed=7)
        client = Client(sandbox)
        for _ in range(40):
            with contextlib.suppress(requests.ConnectionError):
                client.ask("GET", BATCHES, shaped=False)
        return [arrival.status for arrival in sandbox.arrivals]

    seen = run()
    assert seen == run()
    assert {200, 429, 500, 502, None} == set(seen)


@pytest.mark.parametrize(
    "fields",
    [
        {"drop": True, "status": 500},
        {"status": 500, "batch_fails": True},
        {"drop": True, "attachments_fail": 1},
    ],
)
def test_contradictions(sandbox, fields):
    with pytest.raises(ValueError, match=r"fault|batch"):
        sandbox.fail_next(**fields)


def test_no_fault_at_all(sandbox):
    with pytest.raises(ValueError, match="count"):
        sandbox.fail_next(status=500, count=0)
