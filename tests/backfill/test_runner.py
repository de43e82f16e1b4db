"""A backfill enqueues each row once, whatever interrupts it, and says what became of each row."""

import uuid

import pytest

from evermuse_outbox.backfill import BackfillEnded, TooManyBadRows, begin, check, find_unfinished, run
from evermuse_outbox.backfill import job as job_module
from evermuse_outbox.backfill import runner as run_module
from evermuse_outbox.models import OperationState, OutboxAction, OutboxOperation, OutboxRecord
from example_project.support.models import Email
from tests.mails_model import MailRecord, insert_mails, mail
from tests.model_records.test_saving import subjects


@pytest.fixture(autouse=True)
def _always_room(monkeypatch):
    monkeypatch.setattr("evermuse_outbox.backfill.pace.Pace.free_requests", lambda self: 1_000)


def run_all(plan, job=None):
    """Run a backfill to its end. Return the last progress."""
    return [progress for progress, _ in run(plan, job or begin(plan))][-1]


def test_every_row_is_enqueued_once_in_chunks(alias, plan):
    insert_mails(alias, 7)
    progress = run_all(plan(batch=3))
    assert subjects(alias) == [f"Subject {number}" for number in range(7)]
    assert (progress.enqueued, progress.total, progress.bad) == (7, 7, 0)
    job = OutboxOperation.objects.using(alias).get()
    assert (job.state, job.changed, job.workspace) == (OperationState.FINISHED, 7, "default")
    assert OutboxAction.objects.using(alias).get().records == 7


@pytest.mark.commits
@pytest.mark.parametrize("crash_at", ["insert_many", "run_plan_of", "add_errors"])
def test_a_crash_loses_and_repeats_nothing(alias, plan, monkeypatch, crash_at):
    insert_mails(alias, 7)
    original, calls = getattr(run_module, crash_at), []

    def crash(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise SystemExit
        return original(*arguments)

    monkeypatch.setattr(run_module, crash_at, crash)
    with pytest.raises(SystemExit):
        run_all(plan(batch=3))
    assert len(subjects(alias)) == 3
    progress = run_all(plan(batch=3))
    assert subjects(alias) == [f"Subject {number}" for number in range(7)]
    assert progress.enqueued == 7


def test_a_commit_whose_answer_was_lost_is_not_repeated(alias, plan):
    insert_mails(alias, 4)
    job = begin(plan(batch=2))
    runner = run_module._Runner(plan(batch=2), run_module.open_context(alias, "default"), job)
    pks = runner._next_pks()
    before = dict(job.options)
    runner._write_chunk(pks, 10)
    runner._job.options = before  # as the process remembers it
    runner._write_chunk(pks, 10)
    assert len(subjects(alias)) == 2


def test_rows_without_a_valid_record_are_named_and_left_out(alias, plan, monkeypatch):
    insert_mails(alias, 5)

    def get_data(self, instance):
        if instance.subject == "Subject 1":
            return instance.no_such_field
        return {"subject": instance.subject} if instance.subject != "Subject 3" else "text"

    monkeypatch.setattr(MailRecord, "get_data", get_data)
    results = list(run(plan(), begin(plan())))
    assert subjects(alias) == ["Subject 0", "Subject 2", "Subject 4"]
    bad = [row for _, rows in results for row in rows]
    first = Email.objects.using(alias).order_by("pk")[0].pk
    assert [row.pk for row in bad] == [str(first + 1), str(first + 3)]
    progress = results[-1][0]
    assert progress.bad == 2
    assert progress.errors["MailRecord raises AttributeError"] == {"count": 1, "ids": [str(first + 1)]}
    assert [kind for kind in progress.errors if kind.startswith("data: ")]


def test_it_stops_after_too_many_bad_rows(alias, plan, monkeypatch):
    insert_mails(alias, 6)
    monkeypatch.setattr(MailRecord, "project_id", "")
    with pytest.raises(TooManyBadRows):
        run_all(plan(batch=2, max_bad_rows=0))
    assert OutboxOperation.objects.using(alias).get().failed == 2


def test_the_condition_of_the_declaration_skips_rows(alias, plan, monkeypatch):
    insert_mails(alias, 4)
    monkeypatch.setattr(MailRecord, "should_record", lambda self, row: row.subject != "Subject 2")
    progress = run_all(plan())
    assert (progress.enqueued, progress.skipped) == (3, 1)


def test_missing_skips_rows_that_the_outbox_has(alias, plan):
    insert_mails(alias, 3)
    mail(9).save(using=alias)
    progress = run_all(plan(skips_known=True))
    assert (progress.enqueued, progress.skipped) == (3, 1)
    assert len(subjects(alias)) == 4


def test_only_rows_that_match(alias, plan):
    insert_mails(alias, 4)
    run_all(plan(filters={"subject": "Subject 2"}))
    assert subjects(alias) == ["Subject 2"]


def test_rows_that_are_added_later_are_live_traffic(alias, plan):
    insert_mails(alias, 2)
    job = begin(plan())
    insert_mails(alias, 1, first=5)
    run_all(plan(), job)
    assert subjects(alias) == ["Subject 0", "Subject 1"]


def test_a_table_without_rows_is_finished_at_once(alias, plan):
    assert run_all(plan()).done == 0
    assert OutboxOperation.objects.using(alias).get().state == OperationState.FINISHED


def test_a_paused_backfill_inserts_nothing_and_a_new_start_continues(alias, plan):
    insert_mails(alias, 6)
    job = begin(plan(batch=2))
    steps = run(plan(batch=2), job)
    next(steps)
    next(steps)
    OutboxOperation.objects.using(alias).pause(job.pk)
    progress, _ = next(steps)
    assert progress.waits_for == "a person has paused it"
    assert len(subjects(alias)) == 2
    again = begin(plan(batch=2))
    assert again.pk == job.pk
    run_all(plan(batch=2), again)
    assert len(subjects(alias)) == 6


def test_a_second_process_takes_it_over(alias, plan):
    insert_mails(alias, 4)
    first = run(plan(batch=2), begin(plan(batch=2)))
    next(first)
    second = begin(plan(batch=2))
    with pytest.raises(BackfillEnded, match="Another process goes on"):
        next(first)
    run_all(plan(batch=2), second)
    assert len(subjects(alias)) == 4


def test_a_chunk_of_the_first_process_is_not_repeated_by_a_second_start(alias, plan, monkeypatch):
    """The first process stores a chunk after the second has looked for the job, and before it takes the job over."""
    insert_mails(alias, 6)
    first = run(plan(batch=2), begin(plan(batch=2)))
    next(first)

    def find(searched):
        found = find_unfinished(searched)
        monkeypatch.setattr(job_module, "find_unfinished", find_unfinished)
        next(first)
        return found

    monkeypatch.setattr(job_module, "find_unfinished", find)
    assert run_all(plan(batch=2)).enqueued == 6
    assert subjects(alias) == [f"Subject {number}" for number in range(6)]


def test_a_start_after_the_last_chunk_of_another_process_is_a_new_job(alias, plan, monkeypatch):
    insert_mails(alias, 2)
    first = begin(plan())

    def find(searched):
        found = find_unfinished(searched)
        monkeypatch.setattr(job_module, "find_unfinished", find_unfinished)
        run_all(plan(), first)
        return found

    monkeypatch.setattr(job_module, "find_unfinished", find)
    assert begin(plan()).pk != first.pk


def test_two_first_starts_have_one_job(alias, plan, monkeypatch):
    """The other start inserts the job after this one has looked for it."""
    insert_mails(alias, 2)

    def find(searched):
        found = find_unfinished(searched)
        monkeypatch.setattr(job_module, "find_unfinished", find_unfinished)
        begin(plan())
        return found

    monkeypatch.setattr(job_module, "find_unfinished", find)
    begin(plan())
    assert OutboxOperation.objects.using(alias).count() == 1


def test_a_cancelled_backfill_ends(alias, plan):
    insert_mails(alias, 2)
    job = begin(plan())
    steps = run(plan(), job)
    next(steps)
    OutboxOperation.objects.using(alias).cancel(job.pk, job.created_at, "It is not needed.")
    with pytest.raises(BackfillEnded, match=r"is cancelled\. It is not needed"):
        next(steps)
    assert subjects(alias) == []


def test_workers_do_not_execute_it(alias, plan):
    from evermuse_outbox.jobs import has_running_job, run_operations

    insert_mails(alias, 2)
    begin(plan())
    assert not has_running_job(alias)
    assert run_operations(alias, 1) == 0
    assert OutboxOperation.objects.using(alias).get().state == OperationState.RUNNING


def test_a_check_changes_nothing(alias, plan, monkeypatch):
    insert_mails(alias, 5)
    progress, _ = list(check(plan(batch=2)))[-1]
    assert (progress.enqueued, progress.total) == (5, 5)
    assert list(check(plan(), limit=3))[-1][0].enqueued == 3
    assert not OutboxRecord.objects.using(alias).exists()
    assert not OutboxOperation.objects.using(alias).exists()


def test_a_primary_key_of_any_kind_is_stored_as_text(alias, plan, monkeypatch):
    made = plan()
    assert made.pk_from_text(made.pk_to_text(7)) == 7
    from django.db import models

    monkeypatch.setattr(Email._meta, "pk", models.UUIDField())
    key = uuid.uuid4()
    assert made.pk_from_text(made.pk_to_text(key)) == key
