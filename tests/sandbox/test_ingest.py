"""POST /api/v1/ingest: forms of a body, limits of a request, validation of its records."""

from __future__ import annotations

import gzip
import json

import pytest

from .conftest import Client
from .published import EXAMPLES, NDJSON_EXAMPLE, record, records

NDJSON = {"Content-Type": "application/x-ndjson"}


def refusal_message(response, status=400):
    """Check that a request was refused, and return the message."""
    assert response.status_code == status, response.text
    return response.json()["message"]


# --- Forms of a body --------------------------------------------------------------------------


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_the_published_examples_are_accepted(openapi, example):
    response = openapi.post(example)
    count = len(example["records"] if isinstance(example, dict) else example)
    assert response.status_code == 202
    answer = response.json()
    assert answer.pop("batchId")
    assert answer == {"acceptedCount": count, "rejectedCount": 0, "totalErrorCount": 0}


def test_the_published_ndjson_is_accepted(openapi):
    assert openapi.post_lines(NDJSON_EXAMPLE).json()["acceptedCount"] == 2


def test_a_single_record_is_accepted_by_the_reference_page_only(client, openapi):
    assert client.post(record()).status_code == 202
    refusal_message(openapi.post(record("openapi")))


@pytest.mark.parametrize("contract", ["reference", "openapi"])
def test_both_contracts_accept_an_array_and_the_wrapper(serve, contract):
    client = Client(serve(contract=contract))
    content = records(2, contract)
    assert client.post(content).json()["acceptedCount"] == 2
    assert client.post({"records": content}).json()["acceptedCount"] == 2


@pytest.mark.parametrize(
    "content", [{"records": [record()], "more": 1}, {"records": record()}, {"records": None}, 5, "text", None]
)
def test_any_other_form_is_refused(client, content):
    refusal_message(client.post(content))


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_content_types_of_json_are_accepted(client, kind):
    assert client.post([record()], headers={"Content-Type": kind}).status_code == 202


@pytest.mark.parametrize(
    "kind",
    ["", "text/plain", "application/jsonl", "application/json; charset=latin-1", "multipart/form-data"],
)
def test_any_other_content_type_is_refused(client, kind):
    refusal_message(client.post([record()], headers={"Content-Type": kind}))


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
def test_a_body_that_is_not_json_is_refused(client, body):
    assert "cannot be read" in refusal_message(client.post(body))


@pytest.mark.parametrize(
    "corrupt",
    [
        lambda line: line + b"\n\n" + line,  # an empty line between records
        lambda line: line + b"\n\n",  # an empty line at the end
        lambda line: b"\n" + line,
        lambda line: line + line,
        lambda line: line + b"\n{",
        lambda line: b"[" + line + b"]\n" + line[:-1],
    ],
)
def test_a_body_that_is_not_ndjson_is_refused(client, corrupt):
    line = json.dumps(record()).encode()
    refusal_message(client.post(corrupt(line), headers=NDJSON))


def test_the_last_newline_is_optional_and_only_newlines_separate_lines(client):
    line = json.dumps(record(data={"text": "a\u2028b\u0085c"}), ensure_ascii=False).encode()
    assert client.post(line, headers=NDJSON).json()["acceptedCount"] == 1
    assert client.post(line + b"\r\n", headers=NDJSON).json()["acceptedCount"] == 1


def test_a_line_that_is_not_an_object_is_a_rejected_record(client):
    answer = client.post(json.dumps(record()).encode() + b"\n[]\n", headers=NDJSON).json()
    assert (answer["acceptedCount"], answer["errors"][0]["index"]) == (1, 1)


def test_a_compressed_body_is_refused(client):
    body = gzip.compress(json.dumps([record()]).encode())
    refusal_message(client.post(body, headers={"Content-Encoding": "gzip"}))


@pytest.mark.parametrize("hint", ["text", "audio", "video", "file"])
def test_a_published_format_is_accepted(client, hint):
    assert client.post([record()], params={"format": hint}).status_code == 202


@pytest.mark.parametrize("hint", ["", "TEXT", "image", ["text", "pdf"]])
def test_any_other_format_is_refused(client, hint):
    refusal_message(client.post([record()], params={"format": hint}))


# --- Limits of a request ----------------------------------------------------------------------


@pytest.mark.parametrize("form", ["post", "post_lines"])
def test_a_request_has_1_to_1000_records(client, form):
    assert getattr(client, form)(records(1_000)).json()["acceptedCount"] == 1_000
    assert "1001" in refusal_message(getattr(client, form)(records(1_001)))
    refusal_message(getattr(client, form)([]))


def body_of(size):
    """Return a valid body of exactly ``size`` bytes."""
    frame = json.dumps([record(data={"text": ""})]).encode()
    return frame.replace(b'"text": ""', b'"text": "' + b"x" * (size - len(frame)) + b'"')


def test_a_body_has_up_to_5_000_000_bytes(client):
    assert client.post(body_of(5_000_000)).status_code == 202
    response = client.post(body_of(5_000_001))
    refusal_message(response, 413)
    assert response.json()["error"] == "PAYLOAD_TOO_LARGE"
    assert client.post([record()]).status_code == 202


@pytest.mark.parametrize(("name", "other"), [("_type", "email"), ("_product_id", "prod-2")])
def test_all_records_share_one_type_and_one_product(client, name, other):
    assert name in refusal_message(client.post([record(), record(**{name: other})]))
    assert client.sandbox.records() == []


def test_a_record_without_a_type_is_rejected_alone(client):
    assert client.post([record(), record(_type=None)]).json()["rejectedCount"] == 1


def test_the_case_of_types_may_differ_on_the_reference_page_only(client, openapi):
    assert client.post([record(), record(_type="Message")]).json()["acceptedCount"] == 2
    refusal_message(openapi.post([record("openapi"), record("openapi", _type="Message")]))


def test_a_request_has_up_to_1000_attachments(client):
    ten = [{"type": "file"}] * 10
    full = records(100, _attachments=ten)
    assert client.post(full).status_code == 202
    assert "1001" in refusal_message(client.post([*full, record(_attachments=ten[:1])]))


# --- Invalid records ------------------------------------------------------------------


def test_invalid_records_are_rejected_and_the_others_accepted(client):
    content = records(5)
    content[1]["data"] = "none"
    content[3]["_tags"] = ["x" * 65, 7]
    response = client.post_lines(content)
    assert response.status_code == 202
    answer = response.json()
    assert (answer["acceptedCount"], answer["rejectedCount"], answer["totalErrorCount"]) == (3, 2, 3)
    assert [error["index"] for error in answer["errors"]] == [1, 3, 3]
    assert {error["code"] for error in answer["errors"]} == {"VALIDATION_ERROR"}
    assert answer["errors"][1]["message"].startswith("_tags[0]: ")
    assert [stored.identity.vendor_ids[0][1] for stored in client.sandbox.records()] == ["m-0", "m-2", "m-4"]


@pytest.mark.parametrize("invalid", [20, 21])
def test_a_response_contains_the_first_20_errors(client, invalid):
    answer = client.post([record(), *records(invalid, data=5)]).json()
    assert (answer["rejectedCount"], answer["totalErrorCount"]) == (invalid, invalid)
    assert [error["index"] for error in answer["errors"]] == list(range(1, 21))


def test_several_errors_of_a_record_count_toward_the_20(client):
    answer = client.post([record(), record(_tags=[7] * 30), record(data=5)]).json()
    assert (answer["rejectedCount"], answer["totalErrorCount"]) == (2, 31)
    assert {error["index"] for error in answer["errors"]} == {1}


def test_if_all_records_are_invalid_the_400_has_the_errors_in_details(client):
    response = client.post(records(25, data=5))
    refusal_message(response)
    content = response.json()
    assert content["error"] == "VALIDATION_ERROR"
    details = content["details"]
    assert (details["rejectedCount"], details["totalErrorCount"], len(details["errors"])) == (25, 25, 20)
    assert client.sandbox.batches() == []
    assert client.sandbox.violations == []  # invalid data is not a defect of the client


def test_the_errors_can_be_in_the_field_errors(serve):
    content = Client(serve(errors_in="errors")).post([record(data=5)], has_published_shape=False).json()
    assert content["errors"][0]["index"] == 0
    assert "details" not in content


def test_the_errors_can_be_omitted(serve):
    client = Client(serve(errors_in="nowhere"))
    assert set(client.post([record(data=5)]).json()) == {"error", "message"}
    answer = client.post([record(), record(data=5)]).json()
    assert (answer["rejectedCount"], answer["totalErrorCount"], "errors" in answer) == (1, 1, False)
    assert "errors" not in client.status(answer["batchId"])


def test_with_strict_an_invalid_record_refuses_the_request(serve):
    sandbox = serve(strict=True)
    client = Client(sandbox)
    valid = records(3)
    answer = client.post([valid[0], valid[1] | {"data": 5}, valid[2]])
    assert answer.status_code == 400
    assert [error["index"] for error in answer.json()["details"]["errors"]] == [1]
    assert sandbox.records() == []
    assert client.post([valid[0], valid[2]]).status_code == 202


def test_a_lone_surrogate_rejects_only_its_record(client):
    content = [record(data={"a": "\ud83d"}), record(data={"a": "🙂"}), record(_vendor_ids={"\ud83d": 1})]
    for send in (client.post, client.post_lines):
        answer = send(content).json()
        assert [error["index"] for error in answer["errors"]] == [0, 2]
        assert answer["acceptedCount"] == 1
