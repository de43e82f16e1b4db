"""The search: what each kind of term finds, and how many payloads it may read."""

from __future__ import annotations

import pytest
from django.test import Client

from evermuse_outbox.models import BatchState
from evermuse_outbox.search import text
from tests.admin import rows
from tests.admin.client import listed_ids, url

UNKNOWN_ID = "89d64e75-ad09-4e4e-85a5-c6deec512c4b"
"""A UUID that no row has."""

pytestmark = pytest.mark.django_db


def test_search_by_each_kind_of_term(viewer: Client) -> None:
    home = rows.batch(BatchState.ACCEPTED, remote_id="ev-batch-77")
    row = rows.record(home, payload=rows.line("Z-9", 'She said "yes" in Zürich, 4711'))
    rows.record()
    kinds = [row.pk, f"batch:{home.pk}", row.identity, row.identity.hex, "ev-batch-77", "z-9",
             "Zürich", 'said "yes"', '"4711"']  # fmt: skip
    for term in kinds:
        assert listed_ids(viewer, q=term) == {row.pk}, term


def test_a_uuid_can_also_be_a_batch_id_of_evermuse(viewer: Client) -> None:
    row = rows.record(rows.batch(BatchState.ACCEPTED, remote_id=UNKNOWN_ID))
    assert listed_ids(viewer, q=UNKNOWN_ID) == {row.pk}


@pytest.mark.parametrize("term", ["999999", "9" * 5_000, "batch:", "batch:x", "%", UNKNOWN_ID])
def test_search_without_a_match(viewer: Client, term: str) -> None:
    rows.record()
    assert listed_ids(viewer, q=term) == set()


def test_text_is_searched_in_the_newest_records(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    pks = [rows.record(payload=rows.line(text="needle")).pk for _ in range(5)]
    monkeypatch.setattr(text, "MAX_RECORDS", 3)
    assert listed_ids(viewer, q="needle") == set(pks[2:])
    page = viewer.get(url("record", "changelist"), {"q": "needle"}).content.decode()
    assert "This result is partial." in page
    assert f"#{pks[2]}" in page
    assert "newest 20,000 records" in page


def test_text_is_searched_among_the_records_of_a_closed_state(
    viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = rows.rejected(payload=rows.line(text="needle"))
    for _ in range(3):
        rows.record(payload=rows.line(text="needle"))
    monkeypatch.setattr(text, "MAX_RECORDS", 2)
    assert listed_ids(viewer, q="needle", state="rejected") == {old.pk}
    assert listed_ids(viewer, q="needle", batch__id__exact=old.batch_id) == {old.pk}
    assert listed_ids(viewer, q="needle", type="message") != {old.pk}


def test_the_number_that_the_pages_print_is_found(viewer: Client) -> None:
    row = rows.record()
    rows.record()
    assert listed_ids(viewer, q=f"#{row.pk}") == {row.pk}


def test_search_of_batches(viewer: Client) -> None:
    batch = rows.batch(BatchState.ACCEPTED, remote_id="ev-1")
    rows.batch()
    for term in (batch.pk, "ev-1", batch.key):
        assert listed_ids(viewer, "batch", q=term) == {batch.pk}
    assert listed_ids(viewer, "batch", q="9" * 5_000) == set()
