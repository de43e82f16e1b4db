"""The body of a request: each format is what Evermuse reads, and its size is known before it is joined."""

from __future__ import annotations

import hashlib
import json

import pytest

from evermuse_outbox.evermuse import FORMATS, fingerprint

LINES = ['{"a":1}', '{"b":"ü"}', '{"c":[]}']
RECORDS = [json.loads(line) for line in LINES]

READERS = {
    "ndjson": lambda body: [json.loads(line) for line in body.decode().splitlines()],
    "array": json.loads,
    "wrapper": lambda body: json.loads(body)["records"],
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_body_has_all_records_and_the_computed_size(name, count):
    body = FORMATS[name].join(LINES[:count])
    assert READERS[name](body) == RECORDS[:count]
    assert FORMATS[name].size([len(line.encode()) for line in LINES[:count]]) == len(body)


def test_every_format_has_a_reader_here():
    assert set(FORMATS) == set(READERS)


def test_the_fingerprint_is_sha_256():
    assert fingerprint(b"x") == hashlib.sha256(b"x").hexdigest()
