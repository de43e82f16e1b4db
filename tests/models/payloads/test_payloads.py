"""Encrypted lines in the database: every query decrypts them, and every writer encrypts."""

from __future__ import annotations

import hashlib
import json
import threading
from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction

from evermuse_outbox import outbox
from evermuse_outbox.conf import find_problems
from evermuse_outbox.models import (
    Cause,
    OutboxDataKey,
    OutboxRecord,
    PayloadDropped,
    PayloadHead,
    UnreadableLine,
    cause_of,
)
from evermuse_outbox.models.payloads import forget_keys, keyring
from evermuse_outbox.search import find_records
from tests.keys import KEY, OTHER_KEY, store_line, stored_line
from tests.records import enqueue, record

LARGE = "ä" * 100_000


@pytest.fixture
def encrypted(outbox_settings):
    outbox_settings(ENCRYPTION_KEYS=[KEY])


def reread(row):
    forget_keys(row._state.db)
    return OutboxRecord.objects.using(row._state.db).get(pk=row.pk)


@pytest.mark.parametrize(
    "text", ["Hello", LARGE, "\u2028 \U0001f600 \\ ' \" %s"], ids=["small", "large", "odd"]
)
def test_a_line_is_stored_encrypted_and_read_as_it_was(alias, encrypted, text):
    row = outbox.enqueue(record(1, data={"text": text}), using=alias)
    plain = row.payload
    assert json.loads(plain)["data"]["text"] == text
    assert stored_line(row).startswith("e1:")
    assert "prod-abc" not in stored_line(row)
    fresh = reread(row)
    assert fresh.payload == plain
    assert fresh.size == len(plain.encode())
    assert fresh.envelope()["data"]["text"] == text
    assert "Hello" not in repr(fresh.payload)


def test_every_kind_of_query_decrypts(alias, encrypted):
    rows = enqueue(alias, 1, 2, 3)
    table = OutboxRecord.rows.using(alias).order_by("pk")
    lines = [json.loads(row.payload)["data"]["text"] for row in rows]
    assert lines == ["Hello 1", "Hello 2", "Hello 3"]
    assert [json.loads(line) for line in table.values_list("payload", flat=True)] == [
        json.loads(row.payload) for row in rows
    ]
    deferred = table.defer("payload").first()
    assert deferred.payload == rows[0].payload
    assert table.values("payload")[0]["payload"] == rows[0].payload
    assert table.only("payload").get(pk=rows[1].pk).payload == rows[1].payload
    heads = table.annotate(head=PayloadHead(20)).values_list("head", flat=True)
    assert list(heads) == [row.payload[:20] for row in rows]
    with transaction.atomic(using=alias):
        assert next(table.iterator()).payload == rows[0].payload


def test_plain_and_encrypted_lines_stand_side_by_side(alias, outbox_settings):
    plain = enqueue(alias, 1)[0]
    outbox_settings(ENCRYPTION_KEYS=[KEY])
    secret = enqueue(alias, 2)[0]
    assert reread(plain).payload == plain.payload
    assert stored_line(plain) == plain.payload
    assert reread(secret).payload == secret.payload
    outbox_settings(ENCRYPTION_KEYS=None)
    assert cause_of(reread(secret).payload) is Cause.WAITS
    assert cause_of(reread(plain).payload) is None


def test_a_head_of_a_long_line_is_not_decrypted(alias, encrypted):
    enqueue(alias, 1, data={"text": LARGE})
    (head,) = OutboxRecord.rows.using(alias).annotate(head=PayloadHead(20)).values_list("head", flat=True)
    assert head is None


def test_a_ciphertext_of_another_record_is_no_line(alias, encrypted):
    first, second = enqueue(alias, 1, 2)
    store_line(first, stored_line(second))
    line = reread(first).payload
    assert (cause_of(line), line) == (Cause.ALTERED, "")


@pytest.mark.parametrize("text", ["e1:", "e1:x:AAAA", "e1:{pk}:", "e1:{pk}:AAAA", "e1:{pk}:ä"])
def test_a_broken_stored_form_raises_nowhere(alias, encrypted, text):
    (row,) = enqueue(alias, 1)
    store_line(row, text.format(pk=OutboxDataKey.objects.using(alias).get().pk))
    assert cause_of(reread(row).payload) is Cause.ALTERED
    with pytest.raises(PayloadDropped):
        reread(row).envelope()


def test_a_missing_master_key_shows_which_one_and_comes_back(alias, outbox_settings):
    outbox_settings(ENCRYPTION_KEYS=[KEY])
    (row,) = enqueue(alias, 1)
    outbox_settings(ENCRYPTION_KEYS=[OTHER_KEY])
    line = reread(row).payload
    assert isinstance(line, UnreadableLine)
    assert line.cause is Cause.WAITS
    assert OutboxDataKey.objects.using(alias).get().master in line.message
    outbox_settings(ENCRYPTION_KEYS=[OTHER_KEY, KEY])
    assert reread(row).payload == row.payload


def test_a_missing_row_of_a_data_key_only_waits(alias, encrypted):
    (row,) = enqueue(alias, 1)
    OutboxDataKey.objects.using(alias).all().delete()
    assert cause_of(reread(row).payload) is Cause.WAITS


def test_a_destroyed_key_makes_its_lines_unreadable_for_good(alias, encrypted, clock):
    (row,) = enqueue(alias, 1)
    OutboxDataKey.objects.using(alias).all().destroy(clock.now())
    line = reread(row).payload
    assert cause_of(line) is Cause.DESTROYED
    assert "destroyed" in line.message
    key = OutboxDataKey.objects.using(alias).get()
    assert (key.wrapped, key.master) == ("", "")


def test_a_dropped_payload_keeps_the_hash_of_its_plain_text(alias, encrypted):
    rows = enqueue(alias, 1, 2)
    assert OutboxRecord.rows.using(alias).drop_payloads() == 2
    for row in rows:
        digest = hashlib.sha256(row.payload.encode()).hexdigest()
        assert (reread(row).payload_sha256, stored_line(row)) == (digest, "")


def test_a_line_that_cannot_be_read_is_not_dropped(alias, outbox_settings):
    plain = enqueue(alias, 1)[0]
    outbox_settings(ENCRYPTION_KEYS=[KEY])
    secret = enqueue(alias, 2)[0]
    for keys in (None, [OTHER_KEY]):
        outbox_settings(ENCRYPTION_KEYS=keys)
        forget_keys(alias)
        OutboxRecord.rows.using(alias).drop_payloads()
        assert reread(plain).payload_sha256 == hashlib.sha256(plain.payload.encode()).hexdigest()
        assert reread(secret).payload_sha256 is None


def test_text_is_found_in_encrypted_lines(alias, encrypted):
    rows = enqueue(alias, 1, 2, data={"text": 'Say "Hello"'})
    plain = enqueue(alias, 3, data={"text": "other"})
    store_line(plain[0], plain[0].payload)
    scope = OutboxRecord.rows.using(alias).order_by("-pk")
    assert set(find_records(scope, '"say "hello""', scope=scope).rows) == set(rows)


@pytest.mark.commits
def test_a_process_uses_one_key_and_looks_again_after_a_while(
    alias, encrypted, monkeypatch, django_assert_num_queries
):
    enqueue(alias, 1)
    with django_assert_num_queries(1, using=alias):
        outbox.enqueue(record(2), using=alias)
    assert OutboxDataKey.objects.using(alias).count() == 1
    OutboxDataKey.objects.using(alias).all().retire(OutboxDataKey.objects.using(alias).get().created_at)
    monkeypatch.setattr(keyring, "CACHE_SECONDS", 0.0)
    outbox.enqueue(record(3), using=alias)
    assert OutboxDataKey.objects.using(alias).count() == 2


@pytest.mark.commits
def test_a_key_of_a_transaction_that_was_rolled_back_is_not_used(alias, encrypted):
    with pytest.raises(ZeroDivisionError), transaction.atomic(using=alias):
        outbox.enqueue(record(1), using=alias)
        outbox.enqueue(record(2), using=alias)
        assert OutboxDataKey.objects.using(alias).count() == 1
        raise ZeroDivisionError
    (row,) = enqueue(alias, 3)
    assert OutboxDataKey.objects.using(alias).count() == 1
    assert reread(row).payload == row.payload
    with pytest.raises(ZeroDivisionError), transaction.atomic(using=alias):
        outbox.enqueue(record(4), using=alias)
        raise ZeroDivisionError
    assert reread(row).payload == row.payload


@pytest.mark.commits
def test_a_key_of_a_savepoint_that_was_rolled_back_is_not_used(alias, encrypted):
    with transaction.atomic(using=alias):
        with pytest.raises(ZeroDivisionError), transaction.atomic(using=alias):
            outbox.enqueue(record(1), using=alias)
            raise ZeroDivisionError
        row = outbox.enqueue(record(2), using=alias)
    assert reread(row).payload == row.payload


@pytest.mark.commits
def test_an_id_that_another_process_uses_again_is_looked_up_again(alias, encrypted):
    (row,) = enqueue(alias, 1)
    assert reread(row).payload == row.payload
    known = keyring._known[alias, OutboxDataKey.objects.using(alias).get().pk]
    known.stored = keyring.make_data_key("x")  # of a row that is gone
    known.key._cipher = keyring.unwrap_data_key(known.stored, "x")
    assert OutboxRecord.objects.using(alias).get(pk=row.pk).payload == row.payload


@pytest.mark.commits
def test_threads_that_begin_at_the_same_time_do_not_wait_for_each_other(alias, encrypted):
    if connections[alias].vendor == "sqlite":
        pytest.skip("SQLite has one writer")
    start, written = threading.Barrier(2), []

    def work(number):
        with transaction.atomic(using=alias):
            row = outbox.enqueue(record(number), using=alias)
            start.wait(10)
            written.append((row.pk, str(row.payload)))
        connections[alias].close()

    threads = [threading.Thread(target=work, args=[number]) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    forget_keys(alias)
    assert sorted(OutboxRecord.rows.using(alias).values_list("pk", "payload")) == sorted(written)


def test_a_key_encrypts_for_a_limited_time(alias, encrypted):
    enqueue(alias, 1)
    rows = OutboxDataKey.objects.using(alias)
    rows.update(created_at=rows.get().created_at - keyring.KEY_AGE - timedelta(seconds=1))
    forget_keys(alias)
    enqueue(alias, 2)
    assert rows.count() == 2


def test_without_a_readable_master_key_enqueue_raises(alias, outbox_settings):
    def fails():
        raise RuntimeError(KEY)

    outbox_settings(ENCRYPTION_KEYS=fails)
    with pytest.raises(ImproperlyConfigured) as caught:
        outbox.enqueue(record(1), using=alias)
    assert "RuntimeError" in str(caught.value)
    assert KEY not in str(caught.value)


def test_keys_come_from_a_function_or_a_file(alias, outbox_settings, tmp_path):
    outbox_settings(ENCRYPTION_KEYS=lambda: f"{KEY}\n")
    (row,) = enqueue(alias, 1)
    file = tmp_path / "keys"
    file.write_text(f"{OTHER_KEY}\n{KEY}\n")
    outbox_settings(ENCRYPTION_KEYS=None, ENCRYPTION_KEYS_FILE=str(file))
    assert reread(row).payload == row.payload
    file.write_text(f"{OTHER_KEY}\n")
    assert cause_of(reread(row).payload) is Cause.WAITS
    file.unlink()
    assert "cannot be read" in reread(row).payload.message


@pytest.mark.parametrize("value", [["short"], [5], 5, [KEY[:-4]], {"a": KEY}])
def test_a_wrong_key_is_a_problem_that_does_not_show_it(value):
    (problem,) = find_problems({"API_KEY": "em_sk_1", "ENCRYPTION_KEYS": value})
    assert "ENCRYPTION_KEYS" in problem.path
    assert KEY[:6] not in str(problem)
    assert "short" not in str(problem)


def test_two_places_for_keys_are_a_problem():
    raw = {"API_KEY": "em_sk_1", "ENCRYPTION_KEYS": [KEY], "ENCRYPTION_KEYS_FILE": "/keys"}
    assert [problem.path for problem in find_problems(raw)] == ["EVERMUSE_OUTBOX['ENCRYPTION_KEYS_FILE']"]
