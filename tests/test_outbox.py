"""Enqueueing: one INSERT in the host's transaction, and all records of a call or none."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
import weakref
from datetime import UTC, datetime, timedelta

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import DatabaseError, connections, transaction
from django.test.utils import CaptureQueriesContext

from evermuse_outbox import outbox
from evermuse_outbox.evermuse import InvalidRecord, RecordTooLarge, limits
from evermuse_outbox.evermuse.records import Record, validate
from evermuse_outbox.models import OutboxRecord, RecordState
from tests.records import record

INVALID = record(_type="letter")


def rows(alias):
    return OutboxRecord.objects.using(alias).order_by("pk")


def numbers(alias):
    return [row.envelope()["_vendor_ids"]["message_id"] for row in rows(alias)]


def statements(alias, function):
    with CaptureQueriesContext(connections[alias]) as captured:
        function()
    return [query["sql"] for query in captured]


@pytest.fixture
def contract(outbox_settings):
    """A function that changes the contract of all workspaces."""
    return lambda name: outbox_settings(CONTRACT=name)


# --- enqueue ------------------------------------------------------------------------------------------


@pytest.mark.commits
def test_enqueue_is_one_insert_outside_a_transaction(alias):
    (statement,) = statements(alias, lambda: outbox.enqueue(record(), using=alias))
    assert statement.startswith("INSERT INTO")


def test_enqueue_is_one_insert_and_no_savepoint_inside_one(alias):
    with transaction.atomic(using=alias):
        (statement,) = statements(alias, lambda: outbox.enqueue(record(), using=alias))
    assert statement.startswith("INSERT INTO")


def test_the_row_contains_the_validated_record(alias):
    before = datetime.now(UTC)
    row = outbox.enqueue(record(7), using=alias)
    envelope = validate(record(7), contract="reference")
    stored = rows(alias).get()
    assert stored.pk == row.pk
    assert stored.payload == row.payload == envelope.line
    assert stored.size == envelope.size == len(stored.payload.encode())
    assert (stored.identity, stored.attachments) == (envelope.identity, 0)
    assert (stored.type, stored.product_id, stored.workspace) == ("message", "prod-abc", "default")
    assert (stored.contract, stored.state) == ("reference", RecordState.PENDING)
    # Another clock than the test's: the database's.
    assert abs(stored.enqueued_at - before) < timedelta(seconds=5)


TRICKY = {
    "scripts": "Zoë 你好 ☕ 👩🏽‍💻 \u202e",
    "quotes": "'\"`\\ %s %(x)s {} \r\n\t\x7f",
    "numbers": [0, -1, 2**53, 1.5, 1e300, True, None],
    "empty": [{}, [], ""],
}


def test_the_stored_payload_is_exactly_that_of_validate(alias):
    tricky = record(data=TRICKY, _tags=["ä"], _attachments=[{"type": "file", "vendor_url": "https://a.b/c"}])
    outbox.enqueue(tricky, using=alias)
    outbox.enqueue_many([tricky], using=alias)
    line = validate(tricky, contract="reference").line
    assert [row.payload for row in rows(alias)] == [line, line]
    assert json.loads(line)["data"] == TRICKY
    assert {row.attachments for row in rows(alias)} == {1}


def test_an_invalid_record_is_a_validation_error_and_leaves_nothing(alias):
    with pytest.raises(ValidationError) as caught:
        outbox.enqueue(record(_type="letter", _product_id=5), using=alias)
    assert isinstance(caught.value, InvalidRecord)
    assert set(caught.value.message_dict) == {"_type", "_product_id"}
    assert numbers(alias) == []


def test_the_host_can_catch_an_invalid_record_and_continue_its_transaction(alias):
    with transaction.atomic(using=alias):
        with pytest.raises(InvalidRecord):
            outbox.enqueue(INVALID, using=alias)
        outbox.enqueue(record(2), using=alias)
    assert numbers(alias) == ["msg-2"]


def test_a_record_larger_than_a_request_is_refused(alias):
    with pytest.raises(RecordTooLarge):
        outbox.enqueue(record(data={"text": "x" * 5_000_000}), using=alias)
    assert numbers(alias) == []


def test_a_record_as_large_as_a_request_is_accepted(alias):
    room = 4_999_999 - validate(record(data={"text": ""}), contract="reference").size
    row = outbox.enqueue(record(data={"text": "x" * room}), using=alias)
    row.refresh_from_db()
    assert row.size == len(row.payload) == 4_999_999


@pytest.mark.parametrize(
    "enqueue", [outbox.enqueue, lambda record, **options: outbox.enqueue_many([record], **options)]
)
def test_an_unknown_workspace_is_an_error_before_the_insert(alias, enqueue):
    with pytest.raises(ImproperlyConfigured, match="No workspace 'eu'"):
        enqueue(record(), using=alias, workspace="eu")
    assert numbers(alias) == []


@pytest.mark.parametrize("enqueue", [outbox.enqueue, outbox.enqueue_many])
def test_a_database_that_no_worker_reads_is_an_error(enqueue, outbox_settings):
    outbox_settings(DATABASES=["postgres"])
    with pytest.raises(ImproperlyConfigured, match=r"'default'.*\(now: postgres\)"):
        enqueue(record())
    with pytest.raises(ImproperlyConfigured, match="'nowhere'"):
        enqueue(record(), using="nowhere")


class ToPostgres:
    def db_for_write(self, model, **hints):
        return "postgres"


def test_without_using_the_router_chooses(settings, outbox_settings):
    outbox_settings(DATABASES=["default"])
    settings.DATABASE_ROUTERS = [ToPostgres()]
    with pytest.raises(ImproperlyConfigured, match="'postgres'"):
        outbox.enqueue(record())


def test_each_workspace_has_its_contract_and_its_identities(alias, outbox_settings):
    outbox_settings(WORKSPACES={"strict": {"API_KEY": "em_sk_b", "CONTRACT": "openapi"}})
    here = outbox.enqueue(record(), using=alias)
    there = outbox.enqueue(record(), using=alias, workspace="strict")
    assert (here.contract, there.contract) == ("reference", "openapi")
    assert here.identity != there.identity
    assert there.envelope()["_project_ids"] == ["proj-123"]


def test_database_errors_reach_the_host(alias):
    with pytest.raises(DatabaseError), transaction.atomic(using=alias):
        outbox.enqueue(record(), using=alias)
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT nothing FROM nowhere")
    assert numbers(alias) == []


# --- transactions -------------------------------------------------------------------------------------


@pytest.mark.commits
def test_a_rollback_leaves_nothing(alias):
    with pytest.raises(RuntimeError), transaction.atomic(using=alias):
        outbox.enqueue(record(1), using=alias)
        outbox.enqueue_many([record(2)], using=alias)
        assert len(numbers(alias)) == 2
        raise RuntimeError("an error in the host")
    assert numbers(alias) == []


@pytest.mark.commits
def test_a_rollback_to_a_savepoint_removes_only_the_records_after_it(alias):
    with transaction.atomic(using=alias):
        outbox.enqueue(record("before"), using=alias)
        with pytest.raises(RuntimeError), transaction.atomic(using=alias):
            outbox.enqueue(record("inside"), using=alias)
            outbox.enqueue_many([record("inside too")], using=alias)
            raise RuntimeError("this part only")
        outbox.enqueue(record("after"), using=alias)
    assert numbers(alias) == ["msg-before", "msg-after"]


# --- both contracts, both forms -----------------------------------------------------------------------

PUBLISHED = {
    "mail": {
        "_type": "EMAIL",
        "_event_at": "2026-03-04T05:06:07.891+01:00",
        "_thread_id": "thread-9",
        "_participants": [
            {"id": "p1", "role": "internal", "name": "Ada", "email": "ada@example.com", "type": "user"},
            {"id": "p2", "role": "external"},
        ],
        "_tags": ["urgent"],
        "data": {"subject": "Hello", "body": "A text."},
    },
    "call": {
        "_type": "call",
        "_vendor_ids": {"call_id": "c-1", "tenant": "t-1"},
        "_attachments": [{"type": "audio", "vendor_url": "https://files.example.com/c-1.mp3", "size": 5}],
        "_pii": {"contains_email": True, "sensitive_score": 0.5, "redaction_status": "unredacted"},
    },
    "context": {"_nature": "context"},
}
ONE, SEVERAL = {"_project_id": "proj-1"}, {"_project_id": None, "_project_ids": ["proj-1"]}


@pytest.mark.parametrize("name", ["reference", "openapi"])
@pytest.mark.parametrize("example", PUBLISHED.values(), ids=PUBLISHED.keys())
def test_records_like_the_published_ones(alias, contract, name, example):
    contract(name)
    row = outbox.enqueue(record(**example), using=alias)
    row.refresh_from_db()
    assert (row.contract, row.type) == (name, example.get("_type", "message").lower())
    assert row.payload == validate(record(**example), contract=name).line


@pytest.mark.parametrize(
    "form", [ONE, SEVERAL, ONE | {"_project_ids": ["proj-1"]}], ids=["one", "several", "both"]
)
def test_the_payload_has_the_project_field_of_its_contract(alias, contract, form):
    lines = []
    for name in ("reference", "openapi"):
        contract(name)
        lines.append(outbox.enqueue(record(**form), using=alias).envelope())
    assert (lines[0].get("_project_id"), "_project_ids" in lines[0]) == ("proj-1", False)
    assert (lines[1].get("_project_ids"), "_project_id" in lines[1]) == (["proj-1"], False)


def test_the_stricter_contract_is_stricter(alias, contract):
    document, without_nature = record(_type="document"), record(_nature=None)
    outbox.enqueue(without_nature, using=alias)
    with pytest.raises(InvalidRecord, match="_type"):
        outbox.enqueue(document, using=alias)
    contract("openapi")
    outbox.enqueue(document, using=alias)
    with pytest.raises(InvalidRecord, match="_nature"):
        outbox.enqueue(without_nature, using=alias)


def test_a_typed_record_is_the_same_as_its_mapping(alias):
    typed = Record(
        type="message",
        event_at=datetime(2026, 2, 24, 12, 34, 56, tzinfo=UTC),
        vendor_ids={"message_id": "msg-1"},
        product_id="prod-abc",
        project_id="proj-123",
        nature="evidence",
        data={"text": "Hello 1"},
    )
    typed_row, row = outbox.enqueue(typed, using=alias), outbox.enqueue(record(1), using=alias)
    assert typed_row.identity == row.identity
    assert typed_row.envelope() == row.envelope()
    assert outbox.enqueue_many([typed], using=alias) == 1


# --- enqueue_many -------------------------------------------------------------------------------------


class Tracked(dict):
    """A record that a weak reference can point to."""

    __hash__ = object.__hash__


def test_five_thousand_records_are_streamed(alias):
    alive = weakref.WeakSet()
    highest = 0

    def generate():
        nonlocal highest
        for number in range(5_000):
            tracked = Tracked(record(number))
            alive.add(tracked)
            highest = max(highest, len(alive))
            yield tracked

    assert outbox.enqueue_many(generate(), using=alias) == 5_000
    assert rows(alias).count() == 5_000
    assert highest <= 10
    assert numbers(alias)[:3] == ["msg-0", "msg-1", "msg-2"]


@pytest.fixture
def inserts(monkeypatch):
    """For each INSERT, the list of its payload sizes."""
    sizes = []
    original = outbox.insert_many

    def insert_many(using, workspace, contract, chunk, extras):
        sizes.append([envelope.size for envelope in chunk])
        original(using, workspace, contract, chunk)

    monkeypatch.setattr(outbox, "insert_many", insert_many)
    return sizes


def test_a_chunk_holds_a_thousand_records_at_most(alias, inserts):
    outbox.enqueue_many((record(number) for number in range(2_001)), using=alias)
    assert [len(sizes) for sizes in inserts] == [1_000, 1_000, 1]


def test_a_chunk_is_bounded_in_bytes(alias, inserts):
    large = {"text": "x" * 2_500_000}
    outbox.enqueue_many((record(number, data=large) for number in range(7)), using=alias)
    assert [len(sizes) for sizes in inserts] == [3, 3, 1]
    assert all(sum(sizes) <= 8_000_000 for sizes in inserts)


def test_large_records_do_not_pile_up_in_memory(alias):
    large = "x" * 1_000_000
    tracemalloc.start()
    try:
        outbox.enqueue_many((record(number, data={"text": large}) for number in range(60)), using=alias)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 45_000_000


def test_an_empty_iterable_inserts_nothing(alias):
    assert outbox.enqueue_many([], using=alias) == 0


@pytest.mark.commits
def test_all_or_nothing(alias):
    records = (INVALID if number == 1_500 else record(number) for number in range(2_000))
    with pytest.raises(InvalidRecord):
        outbox.enqueue_many(records, using=alias)
    assert numbers(alias) == []


@pytest.mark.commits
def test_all_or_nothing_also_where_the_caller_catches_the_error(alias):
    with transaction.atomic(using=alias):
        outbox.enqueue(record("before"), using=alias)
        with pytest.raises(InvalidRecord):
            outbox.enqueue_many([*(record(number) for number in range(1_200)), INVALID], using=alias)
        outbox.enqueue(record("after"), using=alias)
    assert numbers(alias) == ["msg-before", "msg-after"]


@pytest.mark.commits
def test_an_error_in_the_iterable_leaves_nothing(alias):
    def generate():
        yield from (record(number) for number in range(1_200))
        raise LookupError("the source broke off")

    with pytest.raises(LookupError):
        outbox.enqueue_many(generate(), using=alias)
    assert numbers(alias) == []


def test_errors_name_the_position_of_the_record(alias):
    records = [record(number) for number in range(20)]
    records[3] = record(_participants=[{"id": "x", "role": "boss"}])
    records[17] = record(_type="letter", _product_id=None)
    records[19] = "no record"
    with pytest.raises(InvalidRecord) as caught:
        outbox.enqueue_many(records, using=alias)
    assert {error.path for error in caught.value.errors} == {
        "[3]._participants[0].role",
        "[17]._type",
        "[17]._product_id",
        "[19]",
    }
    assert "[17]._type" in caught.value.message_dict


@pytest.mark.parametrize("single", [{"_type": "email"}, '{"_type": "email"}', b"[]", {}])
def test_a_single_record_or_text_is_refused_before_it_is_iterated(single):
    with pytest.raises(InvalidRecord) as caught:
        outbox.enqueue_many(single)
    [error] = caught.value.errors
    assert error.allowed == "an iterable of records"


def test_the_search_for_more_errors_is_bounded(alias):
    validated = 0

    def generate():
        nonlocal validated
        for _ in range(10_000):
            validated += 1
            yield INVALID

    with pytest.raises(InvalidRecord) as caught:
        outbox.enqueue_many(generate(), using=alias)
    assert validated == len(caught.value.errors) + 1 == limits.MAX_CALL_ERRORS + 1
    assert caught.value.is_cut
    assert str(caught.value).endswith("only the first 1,000 errors are listed.")


def test_the_error_says_only_if_it_stopped_that_it_did(alias):
    with pytest.raises(InvalidRecord) as caught:
        outbox.enqueue_many([INVALID] * limits.MAX_CALL_ERRORS, using=alias)
    assert len(caught.value.errors) == limits.MAX_CALL_ERRORS
    assert not caught.value.is_cut


# --- async --------------------------------------------------------------------------------------------


def test_async_code_can_enqueue(alias):
    row = async_to_sync(outbox.aenqueue)(record(1), using=alias)
    assert async_to_sync(outbox.aenqueue_many)([record(2), record(3)], using=alias) == 2
    assert row.pk == rows(alias).first().pk
    assert numbers(alias) == ["msg-1", "msg-2", "msg-3"]


@pytest.mark.parametrize(
    ("enqueue", "argument"), [(outbox.aenqueue, INVALID), (outbox.aenqueue_many, [INVALID])]
)
def test_async_errors_are_the_same(alias, enqueue, argument):
    with pytest.raises(InvalidRecord):
        async_to_sync(enqueue)(argument, using=alias)
    with pytest.raises(ImproperlyConfigured):
        async_to_sync(enqueue)(argument, using=alias, workspace="eu")
    assert numbers(alias) == []


async def records_of(*numbers, error=None, seen=None):
    """Yield records one by one, as a client of an API does that reads page by page."""
    for number in numbers:
        await asyncio.sleep(0)
        if seen is not None:
            seen.append(await sync_to_async(lambda: connections["default"].in_atomic_block)())
        yield record(number)
    if error:
        raise error


def test_async_iterators(alias):
    count = async_to_sync(outbox.aenqueue_many)(records_of(*range(5)), using=alias)
    assert count == len(numbers(alias)) == 5
    assert async_to_sync(outbox.aenqueue_many)(records_of(), using=alias) == 0


def test_an_async_iterator_enqueues_all_or_nothing(alias):
    with pytest.raises(ZeroDivisionError):
        async_to_sync(outbox.aenqueue_many)(records_of(1, 2, error=ZeroDivisionError()), using=alias)

    async def with_an_invalid_record():
        yield record(1)
        yield INVALID

    with pytest.raises(InvalidRecord, match=r"\[1\]"):
        async_to_sync(outbox.aenqueue_many)(with_an_invalid_record(), using=alias)
    assert numbers(alias) == []


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_an_async_iterator_is_read():
    seen = []
    async_to_sync(outbox.aenqueue_many)(records_of(1, 2, seen=seen))
    assert seen == [False, False]
    assert numbers("default") == ["msg-1", "msg-2"]


@pytest.mark.django_db
def test_an_async_iterator_may_query_the_database():
    outbox.enqueue(record("stored"))

    async def copies():
        async for row in OutboxRecord.objects.all():
            yield record(f"copy of {row.envelope()['data']['text']}")

    assert async_to_sync(outbox.aenqueue_many)(copies()) == 1


# --- validate -----------------------------------------------------------------------------------------


def test_validate_returns_what_enqueue_stores(alias):
    given = record(_type="EMAIL", _event_at="2026-02-24T13:34:56.789+01:00", _tags=None)
    checked = outbox.validate(given)
    assert checked == json.loads(outbox.enqueue(given, using=alias).payload)
    assert (checked["_type"], checked["_event_at"]) == ("email", "2026-02-24T12:34:56Z")
    assert outbox.validate(checked) == checked


def test_the_workspace_of_validate_decides_the_contract(outbox_settings):
    outbox_settings(WORKSPACES={"other": {"API_KEY": "em_sk_other", "CONTRACT": "openapi"}})
    assert outbox.validate(record())["_project_id"] == "proj-123"
    assert outbox.validate(record(), workspace="other")["_project_ids"] == ["proj-123"]


def test_validate_raises_the_errors_of_enqueue():
    with pytest.raises(InvalidRecord, match="_nature"):
        outbox.validate(record(_nature="proof"))
    with pytest.raises(ImproperlyConfigured, match="nowhere"):
        outbox.validate(record(), workspace="nowhere")
