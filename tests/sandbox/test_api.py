"""Routes, keys, permissions, idempotency and the listing."""

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
def test_unknown_paths(client, path):
    response = client.ask("GET", path)
    assert (response.status_code, response.json()["error"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", INGEST), ("PUT", INGEST), ("POST", BATCHES), ("DELETE", f"{BATCHES}/x"), ("PATCH", INGEST)],
)
def test_wrong_methods(client, method, path):
    response = client.ask(method, path)
    assert (response.status_code, response.json()["error"]) == (405, "METHOD_NOT_ALLOWED")


@pytest.mark.parametrize("key", [None, "", "em_sk_sandbox2", "EM_SK_SANDBOX"])
def test_no_key_or_a_wrong_one(sandbox, key):
    client = Client(sandbox, key)
    for response in (client.post([record()]), client.ask("GET", BATCHES), client.ask("GET", f"{BATCHES}/x")):
        assert response.status_code == 401
    assert sandbox.records() == []


def test_permissions(serve):
    sandbox = serve(keys={"em_sk_w": {"api:write"}, "em_sk_r": ["api:read"], "em_sk_none": ()})
    writer, reader, nobody = (Client(sandbox, key) for key in ("em_sk_w", "em_sk_r", "em_sk_none"))
    batch_id = writer.post([record()]).json()["batchId"]
    assert reader.status(batch_id)["acceptedCount"] == 1
    refusals = [
        reader.post([record()]),
        writer.ask("GET", BATCHES),
        writer.ask("GET", f"{BATCHES}/{batch_id}"),
        nobody.post([record()]),
        nobody.ask("GET", BATCHES),
    ]
    assert [response.status_code for response in refusals] == [403] * 5


def test_workspaces_see_only_their_own(serve):
    sandbox = serve(keys={"em_sk_a": ApiKey(workspace="a"), "em_sk_b": ApiKey(workspace="b")})
    ours, theirs = Client(sandbox, "em_sk_a"), Client(sandbox, "em_sk_b")
    batch_id = ours.post([record()]).json()["batchId"]
    assert theirs.ask("GET", f"{BATCHES}/{batch_id}").status_code == 404
    assert theirs.page() == {"batches": [], "nextCursor": None}
    assert [batch["batchId"] for batch in ours.page()["batches"]] == [batch_id]
    assert (len(sandbox.records("a")), len(sandbox.records("b"))) == (1, 0)


def test_keys_change_while_it_runs(sandbox, client):
    sandbox.set_key("em_sk_new", {"api:write"})
    sandbox.remove_key("em_sk_sandbox")
    assert client.post([record()]).status_code == 401
    assert Client(sandbox, "em_sk_new").post([record()]).status_code == 202


# --- Idempotency-Key --------------------------------------------------------------------------


def keyed(client, key, content, **options):
    return client.post(content, headers={"Idempotency-Key": key}, **options)


def test_the_same_key_and_body_gives_the_first_answer_again(sandbox, client):
    given = [record(), record(data=5)]
    first = keyed(client, "k", given)
    assert keyed(client, "k", given).content == first.content
    assert (len(sandbox.batches()), sandbox.records()[0].times) == (1, 1)
    assert [arrival.replayed for arrival in sandbox.arrivals] == [False, True]


def test_the_same_key_with_another_body_is_a_conflict(sandbox, client):
    keyed(client, "k", [record()])
    response = keyed(client, "k", [record(data={})])
    assert (response.status_code, response.json()["error"]) == (409, "IDEMPOTENCY_CONFLICT")
    assert [arrival.idempotency_key for arrival in sandbox.violations] == ["k"]
    assert sandbox.records()[0].record["data"] == {"text": "hello"}


def test_another_key_or_none_means_another_batch(sandbox, client):
    keyed(client, "a", [record()])
    keyed(client, "b", [record()])
    client.post([record()])
    client.post([record()])
    assert (len(sandbox.batches()), sandbox.records()[0].times) == (4, 4)


def test_a_key_of_256_characters(client):
    assert keyed(client, "k" * 256, [record()]).status_code == 202
    assert keyed(client, "k" * 257, [record()]).status_code == 400


def test_only_accepted_requests_are_remembered(sandbox, client):
    assert keyed(client, "k", [record(data=5)]).status_code == 400
    sandbox.fail_next(status=500)
    assert keyed(client, "k", [record(data={"a": 1})], shaped=False).status_code == 500
    assert keyed(client, "k", [record()]).status_code == 202


def test_keys_can_be_forgotten(sandbox, client):
    keyed(client, "k", [record()])
    sandbox.forget_idempotency_keys()
    keyed(client, "k", [record(data={})])
    assert len(sandbox.batches()) == 2


def test_the_same_key_from_many_at_once_is_accepted_once(sandbox, monkeypatch):
    together = threading.Barrier(4, timeout=5)

    def judge_together(*arguments):
        together.wait()  # nobody goes on before all have found the key to be new
        return validate_records(*arguments)

    monkeypatch.setattr(api, "validate_records", judge_together)
    with ThreadPoolExecutor() as pool:
        futures = [pool.submit(keyed, Client(sandbox), "k", records(2)) for _ in range(4)]
    answers = {future.result().content for future in futures}
    assert (len(answers), len(sandbox.batches()), sandbox.records()[0].times) == (1, 1, 1)


# --- reading ----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_id", ["unknown", "x" * 129, "%2F"])
def test_an_unknown_batch(client, batch_id):
    assert client.ask("GET", f"{BATCHES}/{batch_id}").status_code == 404


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


def test_the_listing_walks_back_from_the_newest(client):
    sent = [client.post([record()]).json()["batchId"] for _ in range(25)]
    newest_first = sent[::-1]
    page = client.page()
    assert [batch["batchId"] for batch in page["batches"]] == newest_first[:20]
    client.post([record()])  # a newer batch moves no page
    rest = client.page(cursor=page["nextCursor"], limit=3)
    assert [batch["batchId"] for batch in rest["batches"]] == newest_first[20:23]
    last = client.page(cursor=rest["nextCursor"], limit=2)
    assert [batch["batchId"] for batch in last["batches"]] == newest_first[23:]
    assert last["nextCursor"] is None


def test_the_page_size(client):
    for _ in range(101):
        client.post([record()])
    assert len(client.page(limit=1)["batches"]) == 1
    assert len(client.page(limit=100)["batches"]) == 100
    assert len(client.page()["batches"]) == 20


@pytest.mark.parametrize("limit", ["0", "101", "-1", "1.5", "ten", "", "+5", "\u0665", "9" * 5_000])
def test_no_other_page_size(client, limit):
    assert client.ask("GET", BATCHES, params={"limit": limit}).status_code == 400


@pytest.mark.parametrize("cursor", ["", "first", "!!!", "YmVmb3JlOg", "é", "x" * 257])
def test_no_other_cursor(client, cursor):
    assert client.ask("GET", BATCHES, params={"cursor": cursor}).status_code == 400
