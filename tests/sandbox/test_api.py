"""Routes, API keys, permissions, idempotency and the listing of batches."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from evermuse_outbox.sandbox import ApiKey, api
from evermuse_outbox.sandbox.ingest import validate_records

from .conftest import BATCHES, INGEST, Client
from .published import record, records


@pytest.mark.parametrize(
    "path", ["/", "/api/v1/ingest/", "/api/v2/ingest", f"{BATCHES}/", f"{BATCHES}/a/b", "//["]
)
def test_an_unknown_path_gets_404(client, path):
    response = client.send("GET", path)
    assert (response.status_code, response.json()["error"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", INGEST), ("PUT", INGEST), ("POST", BATCHES), ("DELETE", f"{BATCHES}/x"), ("PATCH", INGEST)],
)
def test_a_wrong_method_gets_405(client, method, path):
    response = client.send(method, path)
    assert (response.status_code, response.json()["error"]) == (405, "METHOD_NOT_ALLOWED")


@pytest.mark.parametrize("key", [None, "", "em_sk_sandbox2", "EM_SK_SANDBOX"])
def test_a_missing_or_unknown_key_gets_401(sandbox, key):
    client = Client(sandbox, key)
    for response in (
        client.post([record()]),
        client.send("GET", BATCHES),
        client.send("GET", f"{BATCHES}/x"),
    ):
        assert response.status_code == 401
    assert sandbox.records() == []


def test_a_key_needs_the_permission_of_the_endpoint(serve):
    sandbox = serve(keys={"em_sk_w": {"api:write"}, "em_sk_r": ["api:read"], "em_sk_none": ()})
    writer, reader, powerless = (Client(sandbox, key) for key in ("em_sk_w", "em_sk_r", "em_sk_none"))
    batch_id = writer.post([record()]).json()["batchId"]
    assert reader.status(batch_id)["acceptedCount"] == 1
    refusals = [
        reader.post([record()]),
        writer.send("GET", BATCHES),
        writer.send("GET", f"{BATCHES}/{batch_id}"),
        powerless.post([record()]),
        powerless.send("GET", BATCHES),
    ]
    assert [response.status_code for response in refusals] == [403] * 5


def test_a_key_sees_only_the_batches_of_its_workspace(serve):
    sandbox = serve(keys={"em_sk_a": ApiKey(workspace="a"), "em_sk_b": ApiKey(workspace="b")})
    first, second = Client(sandbox, "em_sk_a"), Client(sandbox, "em_sk_b")
    batch_id = first.post([record()]).json()["batchId"]
    assert second.send("GET", f"{BATCHES}/{batch_id}").status_code == 404
    assert second.page() == {"batches": [], "nextCursor": None}
    assert [batch["batchId"] for batch in first.page()["batches"]] == [batch_id]
    assert (len(sandbox.records("a")), len(sandbox.records("b"))) == (1, 0)


def test_keys_can_be_added_and_removed_while_it_runs(sandbox, client):
    sandbox.set_key("em_sk_new", {"api:write"})
    sandbox.remove_key("em_sk_sandbox")
    assert client.post([record()]).status_code == 401
    assert Client(sandbox, "em_sk_new").post([record()]).status_code == 202


# --- Idempotency-Key --------------------------------------------------------------------------


def post_with_key(client, key, content, **options):
    """Post a request with an Idempotency-Key."""
    return client.post(content, headers={"Idempotency-Key": key}, **options)


def test_the_same_key_and_body_gets_the_first_response_again(sandbox, client):
    content = [record(), record(data=5)]
    first = post_with_key(client, "k", content)
    assert post_with_key(client, "k", content).content == first.content
    assert (len(sandbox.batches()), sandbox.records()[0].times) == (1, 1)
    assert [arrival.replayed for arrival in sandbox.arrivals] == [False, True]


def test_the_same_key_with_another_body_is_a_conflict(sandbox, client):
    post_with_key(client, "k", [record()])
    response = post_with_key(client, "k", [record(data={})])
    assert (response.status_code, response.json()["error"]) == (409, "IDEMPOTENCY_CONFLICT")
    assert [arrival.idempotency_key for arrival in sandbox.violations] == ["k"]
    assert sandbox.records()[0].record["data"] == {"text": "hello"}


def test_another_key_or_no_key_creates_another_batch(sandbox, client):
    post_with_key(client, "a", [record()])
    post_with_key(client, "b", [record()])
    client.post([record()])
    client.post([record()])
    assert (len(sandbox.batches()), sandbox.records()[0].times) == (4, 4)


def test_an_idempotency_key_has_up_to_256_characters(client):
    assert post_with_key(client, "k" * 256, [record()]).status_code == 202
    assert post_with_key(client, "k" * 257, [record()]).status_code == 400


def test_a_refused_request_does_not_use_up_its_idempotency_key(sandbox, client):
    assert post_with_key(client, "k", [record(data=5)]).status_code == 400
    sandbox.fail_next(status=500)
    assert post_with_key(client, "k", [record(data={"a": 1})], has_published_shape=False).status_code == 500
    assert post_with_key(client, "k", [record()]).status_code == 202


def test_idempotency_keys_can_be_forgotten(sandbox, client):
    post_with_key(client, "k", [record()])
    sandbox.forget_idempotency_keys()
    post_with_key(client, "k", [record(data={})])
    assert len(sandbox.batches()) == 2


def test_concurrent_requests_with_the_same_key_create_one_batch(sandbox, monkeypatch):
    barrier = threading.Barrier(4, timeout=5)

    def validate_after_barrier(*arguments):
        barrier.wait()  # all requests have looked up the key before any of them is accepted
        return validate_records(*arguments)

    monkeypatch.setattr(api, "validate_records", validate_after_barrier)
    with ThreadPoolExecutor() as pool:
        futures = [pool.submit(post_with_key, Client(sandbox), "k", records(2)) for _ in range(4)]
    contents = {future.result().content for future in futures}
    assert (len(contents), len(sandbox.batches()), sandbox.records()[0].times) == (1, 1, 1)


# --- Statuses and the listing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_id", ["unknown", "x" * 129, "%2F"])
def test_an_unknown_batch_gets_404(client, batch_id):
    assert client.send("GET", f"{BATCHES}/{batch_id}").status_code == 404


def test_a_status_has_the_counts_and_errors_of_its_batch(client, clock):
    answer = client.post([record(), record(data=5)]).json()
    status = client.status(answer["batchId"])
    assert status == {
        **answer,
        "status": "LANDING",
        "createdAt": int(clock.now * 1_000),
        "source": "api",
        "type": "message",
    }


def test_the_listing_starts_with_the_newest_batch(client):
    sent = [client.post([record()]).json()["batchId"] for _ in range(25)]
    newest_first = sent[::-1]
    page = client.page()
    assert [batch["batchId"] for batch in page["batches"]] == newest_first[:20]
    client.post([record()])  # a newer batch does not shift the pages
    second = client.page(cursor=page["nextCursor"], limit=3)
    assert [batch["batchId"] for batch in second["batches"]] == newest_first[20:23]
    last = client.page(cursor=second["nextCursor"], limit=2)
    assert [batch["batchId"] for batch in last["batches"]] == newest_first[23:]
    assert last["nextCursor"] is None


def test_a_page_has_up_to_100_batches_and_by_default_20(client):
    for _ in range(101):
        client.post([record()])
    assert len(client.page(limit=1)["batches"]) == 1
    assert len(client.page(limit=100)["batches"]) == 100
    assert len(client.page()["batches"]) == 20


@pytest.mark.parametrize("limit", ["0", "101", "-1", "1.5", "ten", "", "+5", "\u0665", "9" * 5_000])
def test_any_other_page_size_is_refused(client, limit):
    assert client.send("GET", BATCHES, params={"limit": limit}).status_code == 400


@pytest.mark.parametrize("cursor", ["", "first", "!!!", "YmVmb3JlOg", "é", "x" * 257])
def test_any_other_cursor_is_refused(client, cursor):
    assert client.send("GET", BATCHES, params={"cursor": cursor}).status_code == 400
