"""POST /api/v1/ingest: what a request may hold, and how its records are judged."""

from __future__ import annotations

import gzip
import json

import pytest

from .conftest import Client
from .published import EXAMPLES, NDJSON_EXAMPLE, record, records

NDJSON = {"Content-Type": "application/x-ndjson"}


def refused(response, status=400):
    assert response.status_code == status, response.text
    return response.json()["message"]


# --- forms of a body --------------------------------------------------------------------------


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_takes_the_published_examples(openapi, example):
    response = openapi.post(example)
    count = len(example["records"] if isinstance(example, dict) else example)
    assert response.status_code == 202
    answer = response.json()
    assert answer.pop("batchId")
    assert answer == {"acceptedCount": count, "rejectedCount": 0, "totalErrorCount": 0}


def test_takes_the_published_ndjson(openapi):
    assert openapi.post_lines(NDJSON_EXAMPLE).json()["acceptedCount"] == 2


def test_a_single_record_is_a_form_of_the_reference_page_only(client, openapi):
    assert client.post(record()).status_code == 202
    refused(openapi.post(record("openapi")))


def test_both_take_an_array_and_the_wrapper(client, openapi):
    for one in (client, openapi):
        given = records(2, one.sandbox._api.options.contract.name)
        assert one.post(given).json()["acceptedCount"] == 2
        assert one.post({"records": given}).json()["acceptedCount"] == 2


@pytest.mark.parametrize(
    "content", [{"records": [record()], "more": 1}, {"records": record()}, {"records": None}, 5, "text", None]
)
def test_no_other_form(client, content):
    refused(client.post(content))


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_content_types_of_json(client, kind):
    assert client.post([record()], headers={"Content-Type": kind}).status_code == 202


@pytest.mark.parametrize(
    "kind",
    ["", "text/plain", "application/jsonl", "application/json; charset=latin-1", "multipart/form-data"],
)
def test_no_other_content_type(client, kind):
    refused(client.post([record()], headers={"Content-Type": kind}))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1,]",
        b'[{"a": NaN}]',
        b'[{"a": -Infinity}]',
        b'["\xff"]',
        b"\xef\xbb\xbf[]",
        "[]".encode("utf-16"),
        b"[" * 100_000,
        b"[" + b"9" * 5_000 + b"]",
    ],
)
def test_a_body_that_is_no_json(client, body):
    assert "cannot be read" in refused(client.post(body))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda line: line + b"\n\n" + line,  # an empty line between
        lambda line: line + b"\n\n",  # and at the end
        lambda line: b"\n" + line,
        lambda line: line + line,
        lambda line: line + b"\n{",
        lambda line: b"[" + line + b"]\n" + line[:-1],
    ],
)
def test_lines_that_are_no_ndjson(client, spoil):
    line = json.dumps(record()).encode()
    refused(client.post(spoil(line), headers=NDJSON))


def test_the_last_newline_is_optional_and_line_separators_within_text_are_text(client):
    line = json.dumps(record(data={"text": "a\u2028b\u0085c"}), ensure_ascii=False).encode()
    assert client.post(line, headers=NDJSON).json()["acceptedCount"] == 1
    assert client.post(line + b"\r\n", headers=NDJSON).json()["acceptedCount"] == 1


def test_a_line_that_is_no_object_is_a_rejected_record(client):
    answer = client.post(json.dumps(record()).encode() + b"\n[]\n", headers=NDJSON).json()
    assert (answer["acceptedCount"], answer["errors"][0]["index"]) == (1, 1)


def test_no_compression(client):
    body = gzip.compress(json.dumps([record()]).encode())
    refused(client.post(body, headers={"Content-Encoding": "gzip"}))


@pytest.mark.parametrize("hint", ["text", "audio", "video", "file"])
def test_the_format_hint(client, hint):
    assert client.post([record()], params={"format": hint}).status_code == 202


@pytest.mark.parametrize("hint", ["", "TEXT", "image", ["text", "pdf"]])
def test_no_other_format(client, hint):
    refused(client.post([record()], params={"format": hint}))


# --- limits of a request ----------------------------------------------------------------------


@pytest.mark.parametrize("form", ["post", "post_lines"])
def test_up_to_a_thousand_records(client, form):
    assert getattr(client, form)(records(1_000)).json()["acceptedCount"] == 1_000
    assert "1001" in refused(getattr(client, form)(records(1_001)))
    refused(getattr(client, form)([]))


def body_of(size):
    """A valid body of exactly `size` bytes."""
    frame = json.dumps([record(data={"text": ""})]).encode()
    return frame.replace(b'"text": ""', b'"text": "' + b"x" * (size - len(frame)) + b'"')


def test_up_to_five_million_bytes(client):
    assert client.post(body_of(5_000_000)).status_code == 202
    response = client.post(body_of(5_000_001))
    refused(response, 413)
    assert response.json()["error"] == "PAYLOAD_TOO_LARGE"
    assert client.post([record()]).status_code == 202


@pytest.mark.parametrize(("name", "other"), [("_type", "email"), ("_product_id", "prod-2")])
def test_one_type_and_one_product_a_request(client, name, other):
    assert name in refused(client.post([record(), record(**{name: other})]))
    assert client.sandbox.records() == []


def test_a_record_without_a_type_mixes_nothing(client):
    assert client.post([record(), record(_type=None)]).json()["rejectedCount"] == 1


def test_the_case_of_a_type_mixes_nothing_where_it_is_folded(client, openapi):
    assert client.post([record(), record(_type="Message")]).json()["acceptedCount"] == 2
    refused(openapi.post([record("openapi"), record("openapi", _type="Message")]))


def test_up_to_a_thousand_attachments(client):
    ten = [{"type": "file"}] * 10
    full = records(100, _attachments=ten)
    assert client.post(full).status_code == 202
    assert "1001" in refused(client.post([*full, record(_attachments=ten[:1])]))


# --- one record among others ------------------------------------------------------------------


def test_rejects_the_invalid_and_accepts_the_rest(client):
    given = records(5)
    given[1]["data"] = "none"
    given[3]["_tags"] = ["x" * 65, 7]
    response = client.post_lines(given)
    assert response.status_code == 202
    answer = response.json()
    assert (answer["acceptedCount"], answer["rejectedCount"], answer["totalErrorCount"]) == (3, 2, 3)
    assert [error["index"] for error in answer["errors"]] == [1, 3, 3]
    assert {error["code"] for error in answer["errors"]} == {"VALIDATION_ERROR"}
    assert answer["errors"][1]["message"].startswith("_tags[0]: ")
    assert [stored.identity.vendor_ids[0][1] for stored in client.sandbox.records()] == ["m-0", "m-2", "m-4"]


@pytest.mark.parametrize("invalid", [20, 21])
def test_shows_the_first_twenty_errors(client, invalid):
    answer = client.post([record(), *records(invalid, data=5)]).json()
    assert (answer["rejectedCount"], answer["totalErrorCount"]) == (invalid, invalid)
    assert [error["index"] for error in answer["errors"]] == list(range(1, 21))


def test_several_errors_of_one_record_use_up_the_twenty(client):
    answer = client.post([record(), record(_tags=[7] * 30), record(data=5)]).json()
    assert (answer["rejectedCount"], answer["totalErrorCount"]) == (2, 31)
    assert {error["index"] for error in answer["errors"]} == {1}


def test_all_invalid_is_a_400_with_the_errors_in_details(client):
    response = client.post(records(25, data=5))
    refused(response)
    content = response.json()
    assert content["error"] == "VALIDATION_ERROR"
    details = content["details"]
    assert (details["rejectedCount"], details["totalErrorCount"], len(details["errors"])) == (25, 25, 20)
    assert client.sandbox.batches() == []
    assert client.sandbox.violations == []  # bad data is the host's, not the client's


def test_all_invalid_with_the_errors_where_the_text_has_them(serve):
    content = Client(serve(errors_in="errors")).post([record(data=5)], shaped=False).json()
    assert content["errors"][0]["index"] == 0
    assert "details" not in content


def test_all_invalid_without_a_word(serve):
    client = Client(serve(errors_in="nowhere"))
    assert set(client.post([record(data=5)]).json()) == {"error", "message"}
    answer = client.post([record(), record(data=5)]).json()
    assert (answer["rejectedCount"], answer["totalErrorCount"], "errors" in answer) == (1, 1, False)
    assert "errors" not in client.status(answer["batchId"])


def test_strict_one_invalid_record_refuses_them_all(serve):
    sandbox = serve(strict=True)
    client = Client(sandbox)
    good = records(3)
    answer = client.post([good[0], good[1] | {"data": 5}, good[2]])
    assert answer.status_code == 400
    assert [error["index"] for error in answer.json()["details"]["errors"]] == [1]
    assert sandbox.records() == []
    assert client.post([good[0], good[2]]).status_code == 202


def test_a_lone_surrogate_harms_its_record_only(client):
    given = [record(data={"a": "\ud83d"}), record(data={"a": "🙂"}), record(_vendor_ids={"\ud83d": 1})]
    for send in (client.post, client.post_lines):
        answer = send(given).json()
        assert [error["index"] for error in answer["errors"]] == [0, 2]
        assert answer["acceptedCount"] == 1
