"""A backfill beside live changes of the same rows: the latest version of each row is the last one that is enqueued."""

import threading
from random import Random

import pytest
from django.db import connections, transaction

from evermuse_outbox.backfill import begin, find_unfinished, run
from evermuse_outbox.backfill import job as job_module
from evermuse_outbox.backfill.rows import lock_rows
from evermuse_outbox.models import OutboxOperation, OutboxRecord
from example_project.support.models import Email
from tests.mails_model import insert_mails

ROWS, WRITERS, CHANGES = 150, 3, 60


@pytest.fixture(autouse=True)
def _needs_row_locks(alias):
    if not connections[alias].features.has_select_for_update:
        pytest.skip("SQLite has one writer at a time")


@pytest.fixture(autouse=True)
def _always_room(monkeypatch):
    monkeypatch.setattr("evermuse_outbox.backfill.pace.Pace.free_requests", lambda self: 1_000)


@pytest.mark.commits
@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
def test_no_older_version_follows_a_newer_one(alias, plan, isolation):
    insert_mails(alias, ROWS)
    pks = list(Email.objects.using(alias).order_by("pk").values_list("pk", flat=True))
    made = plan(batch=10)
    errors = []

    def change(seed):
        rng = Random(seed)
        try:
            for number in range(CHANGES):
                with transaction.atomic(using=alias):
                    row = Email.objects.using(alias).select_for_update().get(pk=rng.choice(pks))
                    row.subject = f"version {seed}-{number}"
                    row.save()
        except Exception as error:
            errors.append(error)
        finally:
            connections[alias].close()

    writers = [threading.Thread(target=change, args=(seed,)) for seed in range(WRITERS)]
    set_isolation(alias, isolation)
    for writer in writers:
        writer.start()
    for _ in run(made, begin(made)):
        pass
    for writer in writers:
        writer.join()
    connections[alias].close()
    assert errors == []
    latest = {}
    for record in OutboxRecord.objects.using(alias).order_by("pk"):
        latest[record.envelope()["_vendor_ids"]["fingerprint"]] = record.envelope()["data"]["subject"]
    assert latest == dict(Email.objects.using(alias).values_list("fingerprint", "subject"))


def set_isolation(alias, level):
    """Set the isolation level of this connection, as a host may do in its settings."""
    prefix = "SET SESSION CHARACTERISTICS AS" if connections[alias].vendor == "postgresql" else "SET SESSION"
    with connections[alias].cursor() as cursor:
        cursor.execute(f"{prefix} TRANSACTION ISOLATION LEVEL {level.upper()}")


@pytest.mark.commits
def test_a_locked_row_is_left_for_the_next_chunk(alias, plan):
    insert_mails(alias, 5)
    pks = list(Email.objects.using(alias).order_by("pk").values_list("pk", flat=True))
    is_locked, is_done = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic(using=alias):
            Email.objects.using(alias).filter(pk=pks[2]).update(subject="live")
            is_locked.set()
            is_done.wait(10)
        connections[alias].close()

    writer = threading.Thread(target=hold)
    writer.start()
    assert is_locked.wait(10)
    try:
        with transaction.atomic(using=alias):
            assert list(lock_rows(plan(), pks)) == pks[:2]
        steps = run(plan(), begin(plan()))
        progress = [next(steps)[0] for _ in range(3)]
        assert progress[-1].waits_for == "another transaction has locked the next row"
    finally:
        is_done.set()
        writer.join()
    assert [progress.enqueued for progress, _ in steps][-1] == 5
    subjects = [row.envelope()["data"]["subject"] for row in OutboxRecord.objects.using(alias).order_by("pk")]
    assert subjects == ["Subject 0", "Subject 1", "live", "Subject 3", "Subject 4"]


@pytest.mark.commits
def test_a_deleted_row_is_no_locked_one(alias, plan):
    insert_mails(alias, 3)
    pks = list(Email.objects.using(alias).order_by("pk").values_list("pk", flat=True))
    Email.objects.using(alias).filter(pk=pks[1]).delete()
    with transaction.atomic(using=alias):
        assert list(lock_rows(plan(), pks)) == pks


@pytest.mark.commits
@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
def test_two_first_starts_at_once_have_one_job(alias, plan, monkeypatch, isolation):
    """The first start waits before it inserts the job, until the second has looked for one, too."""
    has_looked, create, errors = threading.Event(), job_module._create, []

    def second():
        set_isolation(alias, isolation)
        try:
            begin(plan())
        except Exception as error:
            errors.append(error)
        finally:
            connections[alias].close()

    other = threading.Thread(target=second)

    def find(searched):
        found = find_unfinished(searched)
        if threading.current_thread() is other:
            has_looked.set()
        return found

    def create_later(*arguments):
        if threading.current_thread() is not other:
            other.start()
            assert has_looked.wait(10)
        return create(*arguments)

    monkeypatch.setattr(job_module, "find_unfinished", find)
    monkeypatch.setattr(job_module, "_create", create_later)
    set_isolation(alias, isolation)
    begin(plan())
    other.join()
    connections[alias].close()
    assert errors == []
    assert OutboxOperation.objects.using(alias).count() == 1
