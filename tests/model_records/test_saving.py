"""Saves of a declared model enqueue records, in the transaction of the save."""

import asyncio
import threading
from contextlib import contextmanager

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import connections, models, transaction
from django.db.models import F, Value
from django.db.models.functions import Concat, Upper
from django.test.utils import isolate_apps
from django.utils import timezone

from evermuse_outbox.backfill import Plan
from evermuse_outbox.backfill.rows import build_chunk
from evermuse_outbox.conf import get_settings
from evermuse_outbox.evermuse import InvalidRecord
from evermuse_outbox.model_records import (
    ModelRecord,
    RecordedQuerySet,
    declaration_of,
    record_for,
    record_of,
)
from evermuse_outbox.models import OutboxRecord
from example_project.support.models import Conversation, Email
from tests.mails_model import MailRecord, declared_as, mail


def subjects(alias):
    """Return the subject in each record, in the order of the records."""
    rows = OutboxRecord.objects.using(alias).order_by("pk")
    return [row.envelope()["data"]["subject"] for row in rows]


@pytest.fixture
def declared():
    with declared_as():
        yield


def test_a_save_enqueues_each_version_under_one_identity(alias, declared):
    row = mail()
    row.save(using=alias)
    row.subject = "Corrected"
    row.save(using=alias)
    assert subjects(alias) == ["Subject 0", "Corrected"]
    assert OutboxRecord.objects.using(alias).values("identity").distinct().count() == 1
    envelope = OutboxRecord.objects.using(alias).first().envelope()
    assert envelope["_vendor_ids"] == {"fingerprint": "mail-0"}
    assert envelope["_event_at"] == "2026-03-01T00:00:00Z"
    assert envelope["data"] == {"subject": "Subject 0", "body": "Hello"}


@pytest.mark.commits
def test_a_save_in_autocommit_is_one_transaction_with_its_record(alias, declared, monkeypatch):
    """Django sends ``post_save`` after its own transaction. A crash between the two would lose the record."""

    def crash(*args, **kwargs):
        raise SystemExit

    monkeypatch.setattr("evermuse_outbox.outbox.enqueue", crash)
    assert connections[alias].get_autocommit()
    with pytest.raises(SystemExit):
        mail().save(using=alias)
    assert not Email.objects.using(alias).exists()


def test_an_invalid_record_undoes_the_save_and_the_transaction_goes_on(alias, declared):
    row = mail(subject="\0" if connections[alias].vendor == "sqlite" else "x")
    with declared_as_project(""), transaction.atomic(using=alias):
        with pytest.raises(InvalidRecord):
            row.save(using=alias)
        assert not Email.objects.using(alias).exists()
    assert row.pk is None
    row.subject = "Good"
    row.save(using=alias)  # an insert, as if it had never failed
    assert subjects(alias) == ["Good"]


@isolate_apps("example_project.support")
def parcel_models():
    """Return a model with a generated field, and a model that inherits from it with a table of its own."""

    class Parcel(models.Model):
        subject = models.CharField(max_length=50)
        sent_at = models.DateTimeField(default=timezone.now)
        label = models.GeneratedField(
            expression=Upper("subject"), output_field=models.CharField(max_length=50), db_persist=True
        )

        class Meta:
            app_label = "support"

    class Letter(Parcel):
        stamp = models.CharField(max_length=50, default="red")

        class Meta:
            app_label = "support"

    return Parcel, Letter


Parcel, Letter = parcel_models()


class ParcelRecord(MailRecord):
    vendor_ids = {}
    fields = ("subject", "label")


@contextmanager
def own_tables(alias, *declared_models):
    """Create the tables of models that no migration has inside the ``with`` block."""
    with connections[alias].schema_editor() as editor:
        for model in declared_models:
            editor.create_model(model)
    try:
        yield
    finally:
        with connections[alias].schema_editor() as editor:
            for model in reversed(declared_models):
                editor.delete_model(model)


class declared_as_project:  # noqa: N801 - a context manager
    """Use another project inside the ``with`` block."""

    def __init__(self, project):
        self.project = project

    def __enter__(self):
        self.before, MailRecord.project_id = MailRecord.project_id, self.project

    def __exit__(self, *error):
        MailRecord.project_id = self.before


def test_a_rollback_takes_the_record_with_it(alias, declared):
    with pytest.raises(ValidationError), transaction.atomic(using=alias):
        mail().save(using=alias)
        raise ValidationError("the host changes its mind")
    assert subjects(alias) == []


def test_update_fields_without_a_watched_field_enqueue_nothing(alias, declared):
    row = mail()
    row.save(using=alias)
    row.sender = "ann@example.com"
    row.save(using=alias, update_fields=["sender"])
    assert len(subjects(alias)) == 1
    row.subject = "Corrected"
    row.save(using=alias, update_fields=["subject"])
    assert subjects(alias) == ["Subject 0", "Corrected"]


def test_a_method_of_the_declaration_may_read_every_field(alias):
    class FromSender(MailRecord):
        def get_data(self, instance):
            return {"subject": instance.sender}

    with declared_as(FromSender):
        row = mail()
        row.save(using=alias)
        row.sender = "ann@example.com"
        row.save(using=alias, update_fields=["sender"])
    assert subjects(alias) == ["", "ann@example.com"]


@pytest.mark.parametrize(("on", "expected"), [(("create",), 1), (("update",), 1), ((), 0)])
def test_only_the_named_events_enqueue(alias, on, expected):
    with declared_as(type("Once", (MailRecord,), {"on": on})):
        row = mail()
        row.save(using=alias)
        row.save(using=alias)
    assert len(subjects(alias)) == expected


def test_a_condition_decides_for_each_row(alias):
    class Long(MailRecord):
        def should_record(self, instance):
            return len(instance.body) > 3

    with declared_as(Long):
        mail(1, body="no").save(using=alias)
        mail(2).save(using=alias)
    assert subjects(alias) == ["Subject 2"]


def test_values_that_were_not_saved_are_not_sent(alias, declared):
    row = mail()
    row.save(using=alias)
    stale = Email.objects.using(alias).get()
    row.body = "Newer"
    row.save(using=alias)
    stale.subject = "Corrected"
    stale.save(using=alias, update_fields=["subject"])
    assert OutboxRecord.objects.using(alias).last().envelope()["data"] == {
        "subject": "Corrected",
        "body": "Newer",
    }


def test_raw_values_are_sent_as_the_database_has_them(alias, declared):
    row = mail(fingerprint=7, subject=12, sent_at="2026-03-01T02:00:00+02:00")
    row.save(using=alias)
    Email.objects.using(alias).get().save()
    first, second = OutboxRecord.objects.using(alias).order_by("pk")
    assert first.identity == second.identity
    assert first.envelope()["data"] == {"subject": "12", "body": "Hello"}


@pytest.mark.commits
def test_after_a_failed_save_the_next_one_overwrites_no_other_row(alias):
    """SQLite gives the id of a row that was rolled back to the next one."""
    with own_tables(alias, Parcel, Letter), declared_as(ParcelRecord, Parcel):
        letter = Letter(subject="bad")
        with declared_as_project(""), pytest.raises(InvalidRecord):
            letter.save(using=alias)
        assert (letter.pk, letter.id, letter._state.adding, letter._state.db) == (None, None, True, None)
        Parcel(subject="other").save(using=alias)
        letter.save(using=alias)
        assert sorted(Parcel.objects.using(alias).values_list("subject", flat=True)) == ["bad", "other"]


@pytest.mark.commits
def test_a_row_of_a_declared_child_has_the_record_of_the_child_alone(alias):
    """Also if it is saved or updated as a row of its parent."""

    class LetterRecord(ParcelRecord):
        fields = ("subject", "stamp")

    with (
        own_tables(alias, Parcel, Letter),
        declared_as(ParcelRecord, Parcel),
        declared_as(LetterRecord, Letter),
    ):
        Parcel(subject="parcel").save(using=alias)
        Letter(subject="letter").save(using=alias)
        row = Parcel.objects.using(alias).get(subject="letter")
        row.subject = "saved"
        row.save()
        RecordedQuerySet(Parcel, using=alias).update(subject="updated")
        records = [each.envelope() for each in OutboxRecord.objects.using(alias).order_by("pk")]
        plan = Plan(declaration=declaration_of(Parcel), using=alias)
        pks = list(Parcel.objects.using(alias).order_by("pk").values_list("pk", flat=True))
        chunk = build_chunk(plan, pks, get_settings())
    assert [(*record["_vendor_ids"], record["data"]["subject"]) for record in records] == [
        ("parcel_id", "parcel"),
        ("letter_id", "letter"),
        ("letter_id", "saved"),
        ("parcel_id", "updated"),
        ("letter_id", "updated"),
    ]
    assert records[-1]["data"]["stamp"] == "red"
    assert (len(chunk.envelopes), chunk.skipped) == (1, 1)


@pytest.mark.commits
def test_a_generated_field_is_sent_as_it_is_after_the_save(alias):
    with own_tables(alias, Parcel, Letter), declared_as(ParcelRecord, Parcel):
        row = Parcel(subject="small")
        row.save(using=alias)
        row.subject = "large"
        row.save(using=alias)
        last = OutboxRecord.objects.using(alias).order_by("pk").last()
        assert last.envelope()["data"] == {"subject": "large", "label": "LARGE"}


@pytest.mark.commits
def test_no_old_version_is_read_again_under_repeatable_read(alias, declared):
    """MariaDB shows the version of the snapshot of a row that a save left as it was."""
    if connections[alias].vendor != "mysql":
        pytest.skip("PostgreSQL raises an error, and SQLite has one writer")
    mail().save(using=alias)

    def change():
        row = Email.objects.using(alias).get()
        row.subject = "Newer"
        row.save()
        connections[alias].close()

    with connections[alias].cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    with transaction.atomic(using=alias):
        stale = Email.objects.using(alias).get()  # the snapshot
        writer = threading.Thread(target=change)
        writer.start()
        writer.join()
        stale.save(update_fields=["body"])
    connections[alias].close()
    assert subjects(alias)[-1] == "Newer"


def test_an_expression_is_read_from_the_database(alias, declared):
    row = mail()
    row.save(using=alias)
    row.subject = Concat(F("subject"), Value("!"))
    row.save(using=alias)
    assert subjects(alias) == ["Subject 0", "Subject 0!"]


def test_a_deferred_field_is_read(alias, declared):
    mail().save(using=alias)
    row = Email.objects.using(alias).defer("body").get()
    row.subject = "Corrected"
    row.save()
    assert OutboxRecord.objects.using(alias).last().envelope()["data"] == {
        "subject": "Corrected",
        "body": "Hello",
    }


def test_a_proxy_uses_the_declaration_of_its_model(alias, declared):
    class ProxyMail(Email):
        class Meta:
            proxy = True
            app_label = "support"

    try:
        assert type(declaration_of(ProxyMail)) is MailRecord
        row = ProxyMail(
            **{field: getattr(mail(), field) for field in ("fingerprint", "message_id", "subject", "sent_at")}
        )
        row.save(using=alias)
    finally:
        from django.apps import apps

        del apps.all_models["support"]["proxymail"]
        apps.clear_cache()
    assert subjects(alias) == ["Subject 0"]


def test_fixtures_are_not_enqueued(alias, declared, tmp_path):
    fixture = tmp_path / "mails.json"
    fixture.write_text(
        '[{"model": "support.email", "pk": 1, "fields": {"fingerprint": "f", "message_id": "m", '
        '"sent_at": "2026-03-01T00:00:00Z"}}]'
    )
    call_command("loaddata", fixture, database=alias, verbosity=0)
    assert Email.objects.using(alias).count() == 1
    assert subjects(alias) == []


@pytest.mark.django_db(transaction=True)
def test_an_async_save_enqueues(declared):
    asyncio.run(mail().asave())
    assert subjects("default") == ["Subject 0"]


def test_the_record_of_a_row_can_be_enqueued_by_hand(declared):
    assert record_for(mail(7))["data"]["subject"] == "Subject 7"
    with declared_as_none(), pytest.raises(LookupError, match=r"support\.Email has no declaration"):
        record_for(mail())


class declared_as_none:  # noqa: N801 - a context manager
    """Use no declaration inside the ``with`` block."""

    def __enter__(self):
        from evermuse_outbox.model_records.registry import forget

        forget(Email)

    def __exit__(self, *error):
        record_of(Email)(MailRecord)


def test_a_model_has_one_declaration(declared):
    with pytest.raises(Exception, match=r"support\.Email has a declaration already: MailRecord"):
        record_of(Email)(type("Other", (ModelRecord,), {}))


def test_a_relation_is_followed():
    class OfConversation(ModelRecord):
        fields = {"name": "customer_name", "id": "pk"}

    declaration = OfConversation()
    declaration.model = Conversation
    assert declaration.get_data(Conversation(pk=3, customer_name="Ann")) == {"name": "Ann", "id": 3}
    assert declaration.get_vendor_ids(Conversation(pk=3)) == {"conversation_id": "3"}
