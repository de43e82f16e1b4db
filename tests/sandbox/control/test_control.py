"""The control over HTTP: faults, requests, records, and what it refuses."""

from __future__ import annotations

import json
import socket
from urllib.parse import quote

import pytest
import requests

from ..conftest import BATCHES, INGEST, Client
from ..published import record
from .conftest import Browser


def mail(number, **fields):
    return record(_vendor_ids={"id": f"m-{number}"}, **fields)


# --- Faults -------------------------------------------------------------------------------------


def test_a_fault_is_added_listed_and_removed(browser, client):
    added = browser.send("POST", "faults", {"status": 503, "count": 2, "message": "later"})
    assert added.status_code == 201
    refused = client.post([record()])
    assert (refused.status_code, refused.json()["message"]) == (503, "later")
    (waiting,) = browser.get("faults")["faults"]
    assert (waiting["id"], waiting["count"], waiting["affected"]) == (added.json()["id"], 1, 1)
    assert browser.send("DELETE", f"faults/{waiting['id']}").json() == {"faults": []}
    assert browser.send("DELETE", f"faults/{waiting['id']}").status_code == 404
    assert client.post([record()]).status_code == 202


def test_a_record_is_rejected_and_shown(browser, client):
    browser.send("POST", "faults", {"reject": "m-1", "message": "no"})
    client.post_lines([mail(0), mail(1), mail(2)])
    records = browser.get("records")["records"]
    assert [(row["index"], row["state"], row["message"]) for row in records] == [
        (0, "accepted", ""),
        (1, "rejected", "no"),
        (2, "accepted", ""),
    ]
    assert [row["index"] for row in browser.get("records?state=rejected")["records"]] == [1]


def test_all_faults_are_cleared_and_random_faults_are_set(browser, client, sandbox):
    browser.send("POST", "faults", {"status": 503, "count": None})
    assert browser.send("DELETE", "faults").status_code == 200
    assert browser.send("PUT", "random-faults", {"percent": 100}).status_code == 200
    assert browser.get("state")["random_faults"] == 100
    assert browser.send("PUT", "random-faults", {"percent": 0}).status_code == 200
    assert client.post([record()]).status_code == 202


def test_keys_are_refused_and_accepted_again_and_their_scopes_change(browser, client, sandbox):
    assert browser.get("state")["keys"] == {"listing": "workspace", "idempotency": "workspace", "refused": []}
    changed = browser.send("PUT", "keys", {"listing": "key", "idempotency": "key", "refused": [1]})
    assert changed.json() == {"listing": "key", "idempotency": "key", "refused": [1]}
    assert sandbox.scopes == {"listing": "key", "idempotency": "key"}
    assert client.post([record()]).status_code == 401
    assert browser.send("PUT", "keys", {"listing": "workspace"}).json()["refused"] == [1]
    assert browser.send("PUT", "keys", {"refused": []}).json()["refused"] == []
    assert client.post([record()]).status_code == 202


@pytest.mark.parametrize(
    "content",
    [[], {"listing": "all"}, {"listing": None}, {"refused": 1}, {"refused": ["1"]}, {"scope": "key"}],
)
def test_a_wrong_change_of_keys_is_refused(browser, sandbox, content):
    assert browser.send("PUT", "keys", content).status_code == 400
    assert sandbox.scopes == {"listing": "workspace", "idempotency": "workspace"}


@pytest.mark.parametrize("content", [{}, [], {"statuss": 1}, {"status": 7}])
def test_a_wrong_fault_is_refused_with_a_reason(browser, content):
    response = browser.send("POST", "faults", content)
    assert (response.status_code, response.json()["error"]) == (400, "BAD_REQUEST")


@pytest.mark.parametrize("percent", [-1, 101, "5", None, True])
def test_a_wrong_percentage_is_refused(browser, percent):
    assert browser.send("PUT", "random-faults", {"percent": percent}).status_code == 400


def test_a_body_that_is_no_json_is_refused(browser):
    url = f"{browser.sandbox.url}/sandbox/faults"
    headers = {"Content-Type": "application/json"}
    for body in (b"{", b"\xff", b"[" * 100_000):
        assert browser.session.post(url, data=body, headers=headers, timeout=5).status_code == 400


def test_too_many_faults_are_refused(browser, sandbox):
    for _ in range(1_000):
        sandbox.fail_next(status=500)
    assert browser.send("POST", "faults", {"status": 500}).status_code == 409


def test_unknown_paths_and_methods_are_refused(browser):
    assert browser.send("GET", "nothing").status_code == 404
    assert browser.send("DELETE", "state").status_code == 405
    assert browser.send("OPTIONS", "faults").status_code == 405


def test_a_reset_forgets_everything(browser, client, sandbox):
    client.post([record()])
    sandbox.fail_next(status=500)
    assert browser.send("POST", "reset", {}).status_code == 200
    assert (sandbox.batches(), sandbox.waiting_faults(), browser.get("requests")["requests"]) == ([], [], [])


# --- Requests and records -----------------------------------------------------------------------


def test_a_request_is_shown_with_its_batch_and_without_its_key(browser, client, sandbox, clock):
    client.post([mail(0), mail(1)], headers={"Idempotency-Key": "k-1"})
    (row,) = browser.get("requests")["requests"]
    assert (row["records"], row["accepted"], row["type"], row["product"]) == (2, 2, "message", "prod-1")
    assert (row["state"], row["idempotency_key"]) == ("landing", "k-1")
    clock.advance(60)
    answer = browser.send("GET", f"requests/{row['number']}")
    assert answer.json()["state"] == "complete"
    assert answer.json()["records_in_body"][1]["vendor_ids"] == "id=m-1"
    assert answer.json()["batch_id"] in answer.json()["response"]
    assert ["x-api-key", "(hidden, 13 characters)"] in answer.json()["headers"]
    assert client.key not in answer.text


def test_the_bytes_of_a_body_and_of_a_record_are_those_that_were_sent(browser, client):
    lines = [json.dumps(mail(n, data={"text": "grüße €"})).encode() for n in range(2)]
    client.post(b"\n".join(lines) + b"\n", headers={"Content-Type": "application/x-ndjson"})
    client.post(b' {"records" : [' + b" , ".join(lines) + b"] }")
    assert browser.send("GET", "requests/1/body").content == b"\n".join(lines) + b"\n"
    assert browser.send("GET", "requests/1/records/1").content == lines[1]
    assert browser.send("GET", "requests/2/records/1").content == lines[1]
    assert browser.send("GET", "requests/2/records/2").status_code == 404
    assert browser.send("GET", "requests/3/body").status_code == 404


def test_filters_select_requests(browser, client, sandbox):
    client.post([mail(0)])
    client.post([mail(1, _type="email", data={"subject": "Grüße"})])
    client.post([mail(2, _product_id="p-2")])
    sandbox.fail_next(status=503)
    client.post([mail(3)])
    client.send("GET", BATCHES)

    def numbers(query: str) -> list[int]:
        return [row["number"] for row in browser.get(f"requests?{query}")["requests"]]

    assert numbers("") == [5, 4, 3, 2, 1]
    assert numbers("method=POST") == [4, 3, 2, 1]
    assert numbers("type=email") == [2]
    assert numbers("product=p-2") == [3]
    assert numbers("state=error") == [4]
    assert numbers(f"text={quote('GRÜSSE'.replace('SS', 'ß'))}") == [2]
    assert numbers("text=M-2") == [3]
    assert numbers("text=nothing") == []
    assert browser.get("requests")["choices"]["type"] == ["email", "message"]
    assert [row["vendor_ids"] for row in browser.get("records?text=m-2")["records"]] == ["id=m-2"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[", b"[1, 2", b"\xff\xfe", b'["\\ud800"]', b"[" * 50_000, b'[{"a": [}]']
)
@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson"])
def test_any_body_can_be_shown(browser, client, body, media_type):
    client.post(body, headers={"Content-Type": media_type})
    assert browser.get("requests/1")["state"] == "refused"
    browser.get("records")


def test_a_dropped_and_an_incomplete_request_are_shown(browser, client, sandbox):
    sandbox.fail_next(drop=True)
    with pytest.raises(requests.ConnectionError):
        client.post([record()])
    with socket.create_connection((sandbox.host, sandbox.port), timeout=5) as connection:
        connection.sendall(b"POST /api/v1/ingest HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    assert [row["state"] for row in browser.get("requests")["requests"]] == ["dropped", "dropped"]


def test_a_request_is_shown_while_it_waits(browser, sandbox):
    sandbox.fail_next(delay=60)
    headers = {"x-api-key": "em_sk_sandbox"}
    with pytest.raises(requests.ReadTimeout):
        requests.post(f"{sandbox.url}{INGEST}", json=[record()], headers=headers, timeout=0.2)
    assert [row["state"] for row in browser.get("requests")["requests"]] == ["in progress"]


def test_a_request_that_a_fault_refused_has_a_type(browser, client, sandbox):
    sandbox.fail_next(status=503)
    client.post_lines([mail(0)])
    assert [row["type"] for row in browser.get("requests?type=message&product=prod-1")["requests"]] == [
        "message"
    ]


def test_a_replay_shows_the_errors_of_the_first_response(browser, client, sandbox):
    sandbox.reject_record(1, "no")
    for _ in range(2):
        client.post([mail(0), mail(1)], headers={"Idempotency-Key": "k"})
    assert [row["state"] for row in browser.get("records")["records"]] == ["accepted", "rejected"] * 2


# --- Origins and tokens -----------------------------------------------------------------------------


def test_the_page_loads_nothing_from_elsewhere(browser, sandbox):
    page = browser.session.get(f"{sandbox.url}/", timeout=5)
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    for name in ("page.css", "page.js"):
        assert f"/sandbox/{name}" in page.text
        text = browser.send("GET", name).text
        assert "//" not in text.replace("// ", "").replace("# ", ""), "no address of another server"
        assert "innerHTML" not in text
    assert "http" not in page.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "faults"), ("DELETE", "faults"), ("GET", "requests")])
def test_a_page_of_another_origin_is_refused(browser, sandbox, method, path, headers):
    response = browser.send(method, path, {"status": 500}, **headers)
    assert response.status_code == 403
    assert "Access-Control-Allow-Origin" not in response.headers
    assert sandbox.waiting_faults() == []


def test_its_own_page_is_accepted(browser, sandbox):
    own = {"Origin": sandbox.url, "Sec-Fetch-Site": "same-origin"}
    assert browser.send("POST", "faults", {"status": 500}, **own).status_code == 201


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_form_cannot_set_a_fault(browser, sandbox, media_type):
    assert browser.send("POST", "faults", {"status": 500}, **{"Content-Type": media_type}).status_code == 415
    assert sandbox.waiting_faults() == []


def test_a_sandbox_that_others_can_reach_requires_a_token(serve):
    sandbox = serve(host="0.0.0.0", control=True)
    browser = Browser(sandbox)
    sandbox.host = "127.0.0.1"  # the address of its URL
    assert browser.send("GET", "state").status_code == 401
    assert browser.send("POST", "faults", {"status": 500}, Authorization="Bearer wrong").status_code == 401
    assert browser.send("GET", "health").status_code == 200
    token = f"Bearer {sandbox.control_token}"
    assert len(sandbox.control_token) > 20
    assert browser.send("GET", "state", Authorization=token).status_code == 200


def test_a_given_token_is_required_on_loopback_too(serve):
    browser = Browser(serve(control=True, control_token="t" * 20))
    assert browser.send("GET", "state").status_code == 401
    assert browser.send("GET", "state", Authorization=f"Bearer {'t' * 20}").status_code == 200


def test_only_allowed_names_are_accepted_as_hosts(serve):
    browser = Browser(serve(control=True, allowed_hosts=["Sandbox"]))
    for path in ("health", "state"):
        assert browser.send("GET", path, Host="sandbox:8787").status_code == 200
        assert browser.send("GET", path, Host="sandbox.evil.example").status_code == 421


def test_without_the_control_there_is_no_page(serve):
    browser = Browser(serve())
    assert browser.session.get(browser.sandbox.url, timeout=5).status_code == 404
    assert browser.send("POST", "faults", {"status": 500}).status_code == 404


def test_the_control_counts_no_request_of_the_api(serve):
    sandbox = serve(control=True, rate_limit=1)
    browser = Browser(sandbox)
    for _ in range(5):
        browser.get("state")
    assert sandbox.arrivals == []
    assert Client(sandbox).post([record()]).status_code == 202
    assert sandbox.arrivals[0].path == INGEST
