"""Packing: on real wire bytes, never over a limit, and never past the one that waits longest."""

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
def test_what_is_packed_fits_and_begins_with_the_first(name, waiting):
    limits, body = Limits(records=20, bytes=500, attachments=15), FORMATS[name]
    packed = pack(waiting, limits, body)
    lines = ["x" * record.size for record in packed]
    assert packed[0] is waiting[0]
    assert len(packed) <= limits.records
    assert len(body.join(lines)) == body.size([len(line) for line in lines])
    assert len(packed) == 1 or len(body.join(lines)) <= limits.bytes
    assert sum(record.attachments for record in packed) <= limits.attachments


@given(waiting=RECORDS)
def test_nothing_that_is_left_behind_would_have_fitted(waiting):
    limits, body = Limits(20, 500, 15), FORMATS["ndjson"]
    packed = pack(waiting, limits, body)
    if len(packed) == limits.records:
        return
    size, attachments = body.size([r.size for r in packed]), sum(r.attachments for r in packed)
    left = [r for r in waiting if not any(r is p for p in packed)]
    assert all(size + 1 + r.size > limits.bytes or attachments + r.attachments > 15 for r in left)


def test_exactly_full_is_not_too_full():
    two = [PendingRecord(249), PendingRecord(249)]
    assert len(pack(two, Limits(10, 500, 10), FORMATS["ndjson"])) == 2
    assert len(pack(two, Limits(10, 499, 10), FORMATS["ndjson"])) == 1


def test_one_that_passes_lowered_limits_goes_alone():
    assert pack([PendingRecord(900, 9), PendingRecord(10)], Limits(10, 500, 5), FORMATS["ndjson"]) == [
        PendingRecord(900, 9)
    ]
