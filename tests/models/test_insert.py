"""Hand-written INSERTs: the stored rows, the number of statements, and that Django sees each statement."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.db import DataError, IntegrityError, connections, transaction
from django.db.models.signals import post_init, post_save, pre_init, pre_save
from django.db.transaction import TransactionManagementError
from django.test.utils import CaptureQueriesContext

from evermuse_outbox import outbox
from evermuse_outbox.evermuse.records import validate
from evermuse_outbox.models import OutboxRecord
from evermuse_outbox.models import insert as package
from evermuse_outbox.models.insert import insert, insert_many
from evermuse_outbox.models.insert.rows import COLUMNS
from tests.records import record

FIELDS = [field.attname for field in OutboxRecord._meta.concrete_fields]


def envelope(number=1, **changes):
    return validate(record(number, **changes), contract="reference")


def stored(alias):
    return list(OutboxRecord.rows.using(alias).order_by("pk"))


def columns_of(row):
    return {name: getattr(row, name) for name in FIELDS}


def without_time(columns):
    return {name: value for name, value in columns.items() if name != "enqueued_at"}


@pytest.fixture(params=["SQL", "ORM"])
def implementation(request, monkeypatch):
    """Run the test with our SQL, and with the ORM as on a database that has no SQL of ours."""
    if request.param == "ORM":
        monkeypatch.setattr(package, "SQL", {})


# --- the stored rows -----------------------------------------------------------------------------------


def test_the_columns_are_the_fields_that_every_record_has():
    fields = [field for field in OutboxRecord._meta.concrete_fields if not field.primary_key]
    assert tuple(field.attname for field in fields[: len(COLUMNS)]) == COLUMNS
    assert [field.attname for field in fields[: len(COLUMNS)] if field.null] == [
        "checksum"
    ]  # of earlier versions
    assert all(field.null for field in fields[len(COLUMNS) :])


def test_the_record_is_as_after_save(alias, implementation):
    row = insert(alias, "default", "reference", envelope())
    assert (row._state.db, row._state.adding, row.pk is None) == (alias, False, False)
    assert not row.get_deferred_fields()
    (read,) = stored(alias)
    assert columns_of(row) == columns_of(read)
    assert {name: type(value) for name, value in vars(row).items()} == {
        name: type(value) for name, value in vars(read).items()
    }
    row.product_id = "another"
    row.save()
    assert [read.product_id for read in stored(alias)] == ["another"]


@pytest.mark.parametrize(
    ("use_tz", "zone"), [(False, "UTC"), (False, "Asia/Kathmandu"), (True, "America/New_York")]
)
def test_the_time_is_as_a_query_reads_it_in_any_time_zone(alias, settings, use_tz, zone):
    settings.USE_TZ, settings.TIME_ZONE = use_tz, zone
    at = outbox.enqueue(record(1), using=alias).enqueued_at
    (read,) = stored(alias)
    assert (at, at.tzinfo) == (read.enqueued_at, read.enqueued_at.tzinfo)


def test_insert_and_insert_many_store_equal_rows(alias, implementation):
    tricky = {"quotes": "'\"\\ %s %(x)s {} \r\n\t", "separators": "a,b\x1f\u2028 \\n", "你": ["☕", None]}
    one = envelope(1, _product_id='Zoë\'s "prod", 1\n\\2 %s', data=tricky, _attachments=[{"type": "file"}])
    made = insert(alias, "default", "reference", one)
    insert_many(alias, "default", "reference", [one, envelope(2), one])
    first, second, third, fourth = (columns_of(row) for row in stored(alias))
    assert first == columns_of(made)
    first, second, third, fourth = (without_time(columns) for columns in (first, second, third, fourth))
    assert second == first | {"id": second["id"]}
    assert third["payload"] == envelope(2).line
    assert fourth == first | {"id": fourth["id"]}
    assert (first["payload"], first["product_id"]) == (one.line, one.product_id)


def test_ids_ascend_in_the_given_order(alias, implementation):
    versions = [envelope(number % 3, data={"version": number}) for number in range(2_500)]
    with transaction.atomic(using=alias):
        insert_many(alias, "default", "reference", versions)
    assert [row.payload for row in stored(alias)] == [version.line for version in versions]


def test_of_several_versions_in_one_call_the_last_is_the_latest(alias):
    outbox.enqueue_many((record(1, data={"version": number}) for number in range(1_100)), using=alias)
    newest = OutboxRecord.rows.using(alias).order_by("-pk").first()
    assert newest.envelope()["data"] == {"version": 1_099}
    waiting = OutboxRecord.rows.using(alias).with_versions().order_by("pk")
    assert {row.newer for row in waiting[:1_099]} == {newest.pk}


# --- the number of statements ------------------------------------------------------------------------------------


def statements(alias, run):
    with CaptureQueriesContext(connections[alias]) as captured:
        run()
    return [query["sql"].split("(")[0].strip() for query in captured]


INTO = {"postgresql": 'INSERT INTO "{}"', "sqlite": 'INSERT INTO "{}"', "mysql": "INSERT INTO `{}`"}


def into(alias):
    return INTO[connections[alias].vendor].format(OutboxRecord._meta.db_table)


def test_ten_records_in_a_transaction_are_ten_inserts_and_nothing_else(alias):
    def run():
        with transaction.atomic(using=alias):
            for number in range(10):
                outbox.enqueue(record(number), using=alias)

    with transaction.atomic(using=alias):
        first, *inserts, last = statements(alias, run)
    assert inserts == [into(alias)] * 10
    assert (first.split()[0], last.split()[0]) == ("SAVEPOINT", "RELEASE")  # of the host's own block


def test_a_thousand_records_are_one_statement_to_the_cursor(alias):
    def run():
        outbox.enqueue_many((record(number) for number in range(3_000)), using=alias)

    with transaction.atomic(using=alias):
        first, *inserts, last = statements(alias, run)
    assert [sql.removeprefix("1000 times: ") for sql in inserts] == [into(alias)] * 3
    assert (first.split()[0], last.split()[0]) == ("SAVEPOINT", "RELEASE")


def test_execute_wrappers_see_each_statement(alias):
    seen = []

    def watch(execute, sql, params, many, context):
        seen.append((sql.split()[0], many))
        return execute(sql, params, many, context)

    with connections[alias].execute_wrapper(watch), transaction.atomic(using=alias):
        outbox.enqueue(record(1), using=alias)
        insert_many(alias, "default", "reference", [envelope(2)])
    many = connections[alias].vendor == "sqlite"
    assert [statement for statement in seen if statement[0] == "INSERT"] == [
        ("INSERT", False),
        ("INSERT", many),
    ]


def test_no_signal_is_sent(alias):
    received = []

    def receive(**signal):
        received.append(signal)

    signals = (pre_init, post_init, pre_save, post_save)
    for signal in signals:
        signal.connect(receive, sender=OutboxRecord)
    try:
        outbox.enqueue(record(1), using=alias)
        outbox.enqueue_many([record(2)], using=alias)
    finally:
        for signal in signals:
            signal.disconnect(receive, sender=OutboxRecord)
    assert received == []


# --- database errors ------------------------------------------------------------------------------------------


BAD = {"size": -1}
"""What makes an INSERT fail on every database."""


def enqueue_one(alias, **changes):
    insert(alias, "default", "reference", replace(envelope(), **changes))


def enqueue_two(alias, **changes):
    insert_many(alias, "default", "reference", [envelope(1), replace(envelope(2), **changes)])


@pytest.mark.commits
@pytest.mark.parametrize("run", [enqueue_one, enqueue_two])
def test_after_an_error_the_hosts_block_only_rolls_back(alias, run):
    with transaction.atomic(using=alias):
        enqueue_one(alias)
        with pytest.raises((IntegrityError, DataError)):
            run(alias, **BAD)
        with pytest.raises(TransactionManagementError):
            OutboxRecord.rows.using(alias).exists()
    assert stored(alias) == []


@pytest.mark.commits
@pytest.mark.parametrize("run", [enqueue_one, enqueue_two])
def test_an_error_within_a_savepoint_of_the_host_takes_only_that(alias, run):
    with transaction.atomic(using=alias):
        enqueue_one(alias)
        with pytest.raises((IntegrityError, DataError)), transaction.atomic(using=alias):
            run(alias, **BAD)
        enqueue_one(alias)
    assert len(stored(alias)) == 2
