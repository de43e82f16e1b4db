"""``HIDE_VALUES``: an error about a record shows the type of a value in place of the value."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from evermuse_outbox.evermuse import InvalidRecord
from evermuse_outbox.evermuse.records import Record, validate
from evermuse_outbox.foreign_text import hide_values
from tests.evermuse.records.samples import LONE_SURROGATE, sample

MARKER = "ann-4711"


@pytest.fixture
def hidden():
    hide_values(True)
    yield
    hide_values(False)


WRONG = [
    {"_type": MARKER},
    {"_event_at": MARKER},
    {"_event_at": f"2026-13-01T00:00:00Z{MARKER}"},
    {"_vendor_ids": {"id": [MARKER]}},
    {"_product_id": MARKER * 100},
    {"_project_id": MARKER, "_project_ids": ["other", MARKER]},
    {"_participants": [{"id": MARKER, "role": MARKER}]},
    {"_participants": [{"id": "a", "role": "unknown", "email": MARKER}]},
    {"_attachments": [{"type": "file", "vendor_url": MARKER}]},
    {"_tags": [MARKER * 20]},
    {"_tag": MARKER},
    {"data": MARKER},
    {"data": {"x": {MARKER}}},
    {"data": {"x": MARKER + LONE_SURROGATE + MARKER}},
]


@pytest.mark.parametrize("changes", WRONG)
def test_no_value_is_shown(changes, hidden):
    with pytest.raises(InvalidRecord) as caught:
        validate(sample(**changes), contract="openapi")
    assert MARKER not in str(caught.value)
    assert MARKER not in repr([asdict(error) for error in caught.value.errors])
    assert MARKER not in repr(caught.value.message_dict)
    assert all(error.path for error in caught.value.errors)


def test_by_default_the_value_is_shown():
    with pytest.raises(InvalidRecord, match=MARKER):
        validate(sample(_type=MARKER), contract="openapi")


def test_the_repr_of_a_record_has_no_content():
    content = {"text": MARKER}
    record = Record(
        type="message",
        event_at="2026-03-01T08:00:00Z",
        vendor_ids={"id": MARKER},
        product_id="prod-1",
        project_id="proj-1",
        data=content,
        thread_id=MARKER,
        participants=[{"id": MARKER, "role": "unknown"}],
        tags=[MARKER],
    )
    assert MARKER not in repr(record)
    assert MARKER not in repr(validate(record, contract="reference"))
    assert record.data == content
