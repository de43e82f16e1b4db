"""``Record``: the same as a mapping with the names of Evermuse."""

from __future__ import annotations

from datetime import UTC, datetime

from evermuse_outbox.evermuse.records import (
    Record,
    validate,
)
from tests.evermuse.records.samples import sample


def test_a_record_equals_its_mapping():
    when = datetime(2026, 3, 1, 8, tzinfo=UTC)
    given = Record(
        type="conversation",
        event_at=when,
        vendor_ids={"conversation_id": "c-1"},
        product_id="prod-1",
        project_ids=("proj-1",),
        nature="evidence",
        data=sample()["data"],
    )
    assert set(given.as_mapping()) == set(sample())
    assert validate(given, contract="openapi") == validate(sample(), contract="openapi")


def test_unset_fields_are_left_out_and_empty_mappings_kept():
    record = Record(type="email", event_at="", vendor_ids={}, product_id="p", data={}, tags=(), pii=None)
    assert record.as_mapping() == {
        "_type": "email",
        "_schema_version": "1.0.0",
        "_event_at": "",
        "_vendor_ids": {},
        "_product_id": "p",
        "data": {},
    }
