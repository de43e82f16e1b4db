"""Bulk operations enqueue records where the manager asks for it."""

import pytest
from django.db import NotSupportedError
from django.db.models import F, Value
from django.db.models.functions import Concat

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


def test_bulk_create_that_hides_what_it_inserts_is_refused(rows):
    with pytest.raises(NotSupportedError, match="ignore_conflicts"):
        rows.bulk_create([mail()], ignore_conflicts=True)


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


def test_update_in_chunks(alias, rows, monkeypatch):
    monkeypatch.setattr("evermuse_outbox.model_records.queryset.CHUNK", 2)
    insert_mails(alias, 5)
    assert rows.update(subject="Same") == 5
    assert subjects(alias) == ["Same"] * 5


def test_a_manager_without_it_enqueues_nothing(alias, rows):
    Email.objects.using(alias).bulk_create([mail()])
    Email.objects.using(alias).update(subject="Other")
    assert subjects(alias) == []
