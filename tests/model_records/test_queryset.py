"""Bulk operations enqueue records where the manager asks for it."""

import pytest
from django.db import NotSupportedError, connections
from django.db.models import F, QuerySet, Value
from django.db.models.functions import Concat
from django.test.utils import CaptureQueriesContext

from evermuse_outbox.evermuse import InvalidRecord
from evermuse_outbox.model_records import RecordedQuerySet
from example_project.support.models import Email
from tests.mails_model import MailRecord, declared_as, insert_mails, mail
from tests.model_records.test_saving import subjects


@pytest.fixture
def rows(alias):
    with declared_as():
        yield RecordedQuerySet(Email, using=alias)


def test_bulk_create_enqueues_each_row(alias, rows):
    rows.bulk_create(mail(number) for number in range(3))
    assert subjects(alias) == ["Subject 0", "Subject 1", "Subject 2"]


def test_bulk_create_inserts_nothing_if_a_record_is_invalid(alias, rows, monkeypatch):
    monkeypatch.setattr(MailRecord, "project_id", "")
    with pytest.raises(InvalidRecord, match=r"\[0\]\._project_id"):
        rows.bulk_create([mail(1), mail(2)])
    assert not rows.exists()


def test_bulk_create_that_hides_what_it_writes_is_refused(alias, rows, monkeypatch):
    with pytest.raises(NotSupportedError, match="ignore_conflicts"):
        rows.bulk_create([mail()], None, True)
    upsert = {"update_fields": ["subject"]}
    if connections[alias].vendor != "mysql":
        upsert["unique_fields"] = ["fingerprint"]
    for events in (("create",), ("update",)):
        monkeypatch.setattr(MailRecord, "on", events)
        with pytest.raises(NotSupportedError, match="update_conflicts"):
            rows.bulk_create([mail()], update_conflicts=True, **upsert)
    assert not rows.exists()


def test_update_enqueues_the_rows_as_they_are_afterwards(alias, rows):
    insert_mails(alias, 3)
    changed = rows.filter(subject__in=["Subject 1", "Subject 2"]).update(
        subject=Concat(F("subject"), Value("!"))
    )
    assert changed == 2
    assert subjects(alias) == ["Subject 1!", "Subject 2!"]


def test_update_of_other_fields_enqueues_nothing(alias, rows):
    insert_mails(alias, 1)
    assert rows.update(sender="ann@example.com") == 1
    assert subjects(alias) == []


def test_bulk_update_enqueues_each_row_once(alias, rows):
    mails = insert_mails(alias, 2)
    for row in mails:
        row.subject += "!"
    rows.bulk_update(Email.objects.using(alias).order_by("pk"), ["subject"])
    assert len(subjects(alias)) == 2


def test_update_is_one_statement_and_reads_in_chunks(alias, rows, monkeypatch):
    """Filters, expressions and subqueries see the rows as they were before, however many rows there are."""
    monkeypatch.setattr("evermuse_outbox.model_records.queryset.CHUNK", 2)
    insert_mails(alias, 5)
    Email.objects.using(alias).filter(subject="Subject 3").update(sender="open")
    with CaptureQueriesContext(connections[alias]) as queries:
        assert rows.filter(body="Hello").update(body=Concat(F("body"), Value("!")), sender="closed") == 5
    assert (
        len([each for each in queries if each["sql"].startswith("UPDATE") and "support_email" in each["sql"]])
        == 1
    )
    assert subjects(alias) == [f"Subject {number}" for number in range(5)]


def test_update_evaluates_a_subquery_once(alias, rows, monkeypatch):
    """If each chunk evaluated it, the first chunk would close the only open row, and the others would match nothing."""
    if connections[alias].vendor == "mysql":
        pytest.skip("MariaDB takes no subquery on the table that it changes")
    monkeypatch.setattr("evermuse_outbox.model_records.queryset.CHUNK", 2)
    insert_mails(alias, 5)
    plain = QuerySet(Email, using=alias)
    plain.filter(subject="Subject 0").update(sender="open")
    same_body = rows.filter(body__in=plain.filter(sender="open").values("body"))
    assert same_body.update(sender="closed", subject="Same") == 5
    assert subjects(alias) == ["Same"] * 5


def test_update_of_a_primary_key_is_refused(alias, rows):
    pk = insert_mails(alias, 1)[0].pk
    for name in ("pk", "id"):
        with pytest.raises(NotSupportedError, match="primary key"):
            rows.update(**{name: pk + 10})
    assert rows.get().pk == pk


def test_rows_that_are_not_found_again_are_an_error(alias, rows, monkeypatch):
    monkeypatch.setattr(
        "evermuse_outbox.model_records.queryset.stored_rows",
        lambda model, using: QuerySet(model, using=using).none(),
    )
    with pytest.raises(NotSupportedError, match="2 of 2 rows were not found"):
        rows.bulk_create([mail(1), mail(2)])
    assert not rows.exists()


def test_a_primary_key_as_text_is_found_again(alias, rows):
    rows.bulk_create([mail(1, pk="41"), mail(2, pk="42")])
    assert subjects(alias) == ["Subject 1", "Subject 2"]


def test_a_failed_bulk_create_leaves_its_instances_without_a_primary_key(rows, monkeypatch):
    monkeypatch.setattr(MailRecord, "project_id", "")
    row = mail(1)
    with pytest.raises(InvalidRecord):
        rows.bulk_create([row])
    assert (row.pk, row._state.adding) == (None, True)


def test_a_manager_without_it_enqueues_nothing(alias, rows):
    Email.objects.using(alias).bulk_create([mail()])
    Email.objects.using(alias).update(subject="Other")
    assert subjects(alias) == []
