"""Find records to erase, on every database: persons in payloads of any form, filters, and other versions."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.db.models import F

from evermuse_outbox import outbox
from evermuse_outbox.models import OutboxRecord
from evermuse_outbox.operations.erasing import Selection, find, find_records
from tests.records import enqueue, make_invalid, record
from tests.rows import record_in


def person(user="u-1", email="ada@example.com", name="Ada"):
    return {"id": user, "role": "external", "email": email, "name": name}


def with_people(alias, number, *people, **changes):
    return outbox.enqueue(record(number, _participants=list(people), **changes), using=alias)


def found(alias, **conditions):
    return [pk for page in find_records(alias, Selection(**conditions)) for pk in page.pks]


def test_a_participant_is_found_by_id_and_by_address_in_any_case(alias):
    first = with_people(alias, 1, person())
    second = with_people(alias, 2, person("u-9", "x@example.com"), person("U-1", "ADA@Example.com"))
    other = with_people(alias, 3, person("u-11", "grada@example.com"), data={"text": "ada@example.com, u-1"})
    assert found(alias, participant="Ada@example.COM ") == [first.pk, second.pk]
    assert found(alias, participant="u-1") == [first.pk, second.pk]
    assert found(alias, participant="ada") == []
    assert found(alias, text="ADA@example.com") == [first.pk, second.pk, other.pk]


@pytest.mark.parametrize(
    "address", ["ärger@example.com", 'o"brien@example.com', "100%_a@example.com", "é", "ß\\x", "日本@例え.jp"]
)
def test_ids_of_any_characters_are_found(alias, address):
    row = with_people(alias, 1, person(user=address, email=None))
    with_people(alias, 2, person())
    assert found(alias, participant=address.upper()) == [row.pk]
    assert found(alias, text=address) == [row.pk]


def test_a_line_that_a_host_has_altered_is_found_by_its_text(alias):
    row = with_people(alias, 1, person())
    OutboxRecord.rows.using(alias).filter(pk=row.pk).update(payload="{broken ada@example.com")
    escaped = with_people(alias, 2)
    OutboxRecord.rows.using(alias).filter(pk=escaped.pk).update(
        payload='{"_participants":[{"email":"\\u00e4da@example.com"}]}'
    )
    assert found(alias, participant="ada@example.com") == [row.pk]
    assert found(alias, participant="Äda@example.com") == [escaped.pk]


def test_a_vendor_id_is_found_in_exactly_its_form(alias):
    row = outbox.enqueue(record("A1"), using=alias)
    outbox.enqueue(record("a1"), using=alias)
    outbox.enqueue(record("A12"), using=alias)
    assert found(alias, vendor_id="msg-A1") == [row.pk]


def test_conditions_are_joined(alias, clock):
    old = with_people(alias, 1, person())
    OutboxRecord.rows.using(alias).update(enqueued_at=F("enqueued_at") - timedelta(days=3))
    recent = with_people(alias, 2, person())
    product = with_people(alias, 3, person(), _product_id="other")
    since = recent.enqueued_at - timedelta(days=1)
    assert found(alias, participant="u-1", enqueued_from=since) == [recent.pk, product.pk]
    assert found(alias, participant="u-1", enqueued_before=since) == [old.pk]
    assert found(alias, participant="u-1", product_id="other", type="message") == [product.pk]
    assert found(alias, product_id="Other") == []
    assert found(alias, workspace="elsewhere", participant="u-1") == []


@pytest.mark.parametrize(
    "state", ["pending", "in_flight", "delivered", "rejected", "superseded", "discarded"]
)
def test_a_state_is_a_condition(alias, state):
    rows = {each: record_in(alias, each) for each in ("pending", "in_flight", "delivered", "rejected")}
    rows |= {each: record_in(alias, each) for each in ("superseded", "discarded")}
    assert found(alias, state=state) == [rows[state].pk]


def test_an_identity_and_ids(alias):
    first = outbox.enqueue(record(1), using=alias)
    second = outbox.enqueue(record(1, data={"version": 2}), using=alias)
    other = outbox.enqueue(record(2), using=alias)
    assert found(alias, identity=first.identity) == [first.pk, second.pk]
    assert found(alias, identity=uuid.uuid4()) == []
    assert found(alias, ids=(other.pk, 10**12)) == [other.pk]
    assert found(alias, ids=(first.pk,)) == [first.pk, second.pk]


def test_other_versions_belong_to_a_record_and_each_id_comes_once(alias, monkeypatch):
    monkeypatch.setattr(find, "ROWS_PER_WINDOW", 2)
    with_person = with_people(alias, 1, person())
    between = enqueue(alias, 8, 9)
    without = outbox.enqueue(record(1, data={"version": 2}), using=alias)
    again = with_people(alias, 1, person(), data={"version": 3})
    assert found(alias, participant="u-1") == [with_person.pk, without.pk, again.pk]
    assert {row.pk for row in between}.isdisjoint(found(alias, participant="u-1"))


def test_windows_and_pages_cover_the_table(alias, monkeypatch):
    monkeypatch.setattr(find, "ROWS_PER_WINDOW", 3)
    monkeypatch.setattr(find, "RECORDS_PER_PAGE", 2)
    rows = enqueue(alias, *range(10))
    OutboxRecord.rows.using(alias).filter(pk__in=[row.pk for row in rows[3:6]]).delete()
    pages = list(find_records(alias, Selection(workspace="default")))
    assert [pk for page in pages for pk in page.pks] == [row.pk for row in (*rows[:3], *rows[6:])]
    assert all(len(page.pks) <= 2 for page in pages)
    assert pages[-1].position == pages[-1].last == rows[-1].pk


def test_records_enqueued_meanwhile_are_not_found(alias, monkeypatch):
    monkeypatch.setattr(find, "ROWS_PER_WINDOW", 1)
    rows = enqueue(alias, 1, 2)
    pages = find_records(alias, Selection(workspace="default"))
    first = next(pages)
    enqueue(alias, 3)
    assert [*first.pks, *(pk for page in pages for pk in page.pks)] == [row.pk for row in rows]


def test_an_empty_selection_is_refused(alias):
    with pytest.raises(ValueError):
        find_records(alias, Selection())


def test_a_selection_in_words_shows_nobody():
    selection = Selection(participant="ada@example.com", vendor_id="T-1234", text="secret", product_id="p")
    text = str(selection)
    for shown in ("ada@", "T-1234", "secret", "example"):
        assert shown not in text
    assert "participant a…" in text
    assert "product id p" in text
    assert str(Selection(participant="ada@example.com")) in text


def test_an_invalid_line_counts_like_any_other(alias):
    row = with_people(alias, 1, person())
    make_invalid(row)
    assert found(alias, participant="u-1") == [row.pk]
