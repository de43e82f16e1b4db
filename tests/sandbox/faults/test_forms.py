"""Faults as JSON and as text."""

from __future__ import annotations

import json

import pytest

from evermuse_outbox.sandbox import (
    Fault,
    FaultError,
    FaultRequest,
    ScriptedFault,
    fault_from_json,
    fault_from_text,
)
from evermuse_outbox.sandbox.faults import fault_to_json


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("status=503", FaultRequest(Fault(status=503), 1)),
        ("status=503 count=3 on=any", FaultRequest(Fault(status=503, on="any"), 3)),
        ("status=503 count=all type=email", FaultRequest(Fault(status=503, type="email"), None)),
        ("status=429 seconds=5", FaultRequest(Fault(status=429), None, 5.0)),
        ("status=429 seconds=5 count=2", FaultRequest(Fault(status=429), 2, 5.0)),
        ("drop=before", FaultRequest(Fault.drop_before(), 1)),
        ("drop=after product-id=p", FaultRequest(Fault.drop_after(product_id="p"), 1)),
        ("delay=1.5 after_handling=true", FaultRequest(Fault.slow(1.5), 1)),
        ("reject=3 message=no", FaultRequest(Fault.rejected_record(3, "no"), 1)),
        ("reject=id:3", FaultRequest(Fault.rejected_record("3"), None)),
        ("reject=m-3", FaultRequest(Fault.rejected_record("m-3"), None)),
        ('reject={"data.text":"x"}', FaultRequest(Fault.rejected_record({"data.text": "x"}), None)),
        ("batch_fails=yes", FaultRequest(Fault.failed_batch(), 1)),
        (
            'status=302 headers={"Location":"/"}',
            FaultRequest(Fault(status=302, headers={"Location": "/"}), 1),
        ),
    ],
)
def test_a_text_is_read(text, expected):
    assert fault_from_text(text.split()) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "must be an object"),
        ({}, "at least one of"),
        ({"on": "GET"}, "at least one of"),
        ({"delay": 0}, "at least one of"),
        ({"statuss": 500}, "did you mean status"),
        ({"status": "five"}, "status must be an integer"),
        ({"status": True}, "status must be an integer"),
        ({"status": 42}, "status must be from 200"),
        ({"status": 500, "count": 0}, "count must be 1 or more"),
        ({"status": 500, "seconds": "nan"}, "seconds must be a number"),
        ({"status": 500, "seconds": 10**400}, "seconds must be a number"),
        ({"drop": True}, "drop must be before or after"),
        ({"drop": "after", "status": 500}, "cannot have both"),
        ({"reject": []}, "reject must be a position"),
        ({"reject": True}, "reject must be a position"),
        ({"status": 500, "headers": {"A": "b\r\nC: d"}}, "headers must have printable"),
        ({"status": 500, "headers": {"A b": "c"}}, "headers must have printable"),
        ({"status": 500, "message": 5}, "message must be a text"),
        ({"batch_fails": "maybe"}, "batch_fails must be true or false"),
        ({"status": 500, "on": "PUT"}, "on must be POST, GET or any"),
    ],
)
def test_a_wrong_description_says_what_to_change(content, message):
    with pytest.raises(FaultError, match=message):
        fault_from_json(content)


@pytest.mark.parametrize(
    ("text", "message"), [("drop", "must be field=value"), ("reject={", "reject must be JSON")]
)
def test_a_text_that_cannot_be_read_is_an_error(text, message):
    with pytest.raises(FaultError, match=message):
        fault_from_text([text])


def test_a_vendor_id_of_digits_is_no_position():
    assert fault_from_json({"reject": "17"}).fault.reject == "17"
    assert fault_from_json({"reject": 17}).fault.reject == 17


@pytest.mark.parametrize(
    ("fault", "description"),
    [
        (Fault(status=503, type="email"), "answer 503 (POST, type email)"),
        (Fault.slow(2, on="any"), "wait 2 s (requests)"),
        (Fault.drop_after(containing="x"), "drop the connection after processing (POST, containing x)"),
        (Fault.rejected_record(3), "reject record 3 (POST)"),
        (Fault.rejected_record("m-3"), "reject vendor id m-3 (POST)"),
        (Fault.rejected_record({"data.a": 1}), "reject records with data.a=1 (POST)"),
        (Fault.rejected_record(lambda _: True), "reject records that a function selects (POST)"),
        (Fault.failed_batch(), "let the batch fail (POST)"),
        (Fault.failed_attachments(2), "fail 2 attachments (POST)"),
    ],
)
def test_a_fault_is_described(fault, description):
    content = fault_to_json(ScriptedFault(1, fault, 2, 110.0), 100.0)
    assert (content["description"], content["count"], content["seconds"]) == (description, 2, 10)
    json.dumps(content)


def test_a_written_fault_can_be_read_again():
    fault = Fault(status=429, retry_after=3, on="any", headers={"A": "b"})
    content = fault_to_json(ScriptedFault(1, fault), 0.0)
    for name in ("id", "description", "affected", "seconds"):
        del content[name]
    assert fault_from_json(content) == FaultRequest(fault, 1)
