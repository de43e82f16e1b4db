"""Packing on real bytes: never over a limit, and the longest waiting record is always packed."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermuse_outbox.delivery.sealing.packing import Limits, pack
from evermuse_outbox.evermuse import FORMATS


class PendingRecord(NamedTuple):
    size: int
    attachments: int = 0


RECORDS = st.lists(st.builds(PendingRecord, st.integers(1, 400), st.integers(0, 10)), min_size=1, max_size=60)


@pytest.mark.parametrize("name", FORMATS)
@given(waiting=RECORDS)
def test_packed_records_fit_and_begin_with_the_first(name, waiting):
    limits, body = Limits(records=20, bytes=500, attachments=15), FORMATS[name]
    packed = pack(waiting, limits, body)
    lines = ["x" * record.size for record in packed]
    assert packed[0] is waiting[0]
    assert len(packed) <= limits.records
    assert len(body.join(lines)) == body.size([len(line) for line in lines])
    assert len(packed) == 1 or len(body.join(lines)) <= limits.bytes
    assert sum(record.attachments for record in packed) <= limits.attachments


@given(waiting=RECORDS)
def test_no_record_that_was_left_out_would_have_fitted(waiting):
    limits, body = Limits(20, 500, 15), FORMATS["ndjson"]
    packed = pack(waiting, limits, body)
    size = body.size([record.size for record in packed])
    attachments = sum(record.attachments for record in packed)
    left_out = [record for record in waiting if not any(record is other for other in packed)]
    assert len(packed) == limits.records or all(
        size + len(body.between) + record.size > limits.bytes
        or attachments + record.attachments > limits.attachments
        for record in left_out
    )


def test_records_that_fill_a_request_exactly_fit():
    records = [PendingRecord(249), PendingRecord(249)]
    assert len(pack(records, Limits(10, 500, 10), FORMATS["ndjson"])) == 2
    assert len(pack(records, Limits(10, 499, 10), FORMATS["ndjson"])) == 1


def test_a_record_above_lowered_limits_is_packed_alone():
    assert pack([PendingRecord(900, 9), PendingRecord(10)], Limits(10, 500, 5), FORMATS["ndjson"]) == [
        PendingRecord(900, 9)
    ]
