"""Jobs with batches as members: send now, release from doubt, give up."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from evermuse_outbox import jobs
from evermuse_outbox.models import OutboxAttempt, OutboxBatch, OutboxOperationMember
from evermuse_outbox.operations import NotPossible, select_records
from tests.rows import batch_in, record_in

LATER = timedelta(minutes=30)


def executed(alias, kind):
    job = jobs.create(alias, kind, by="anna")
    while not jobs.collect(job, OutboxBatch.objects.using(alias).all()):
        pass
    jobs.confirm(job)
    jobs.run_operations(alias, 60)
    job.refresh_from_db(using=alias)
    return job, [(m.target, m.note) for m in OutboxOperationMember.objects.using(alias).not_changed(job)]


def is_due(alias, batch):
    return OutboxBatch.objects.using(alias).get(pk=batch.pk).due_at <= timezone.now()


def test_waiting_batches_are_sent_or_polled_now(alias):
    later = timezone.now() + LATER
    waiting = batch_in(alias, "sealed", due_at=later)
    accepted = batch_in(alias, "accepted", next_poll_at=later)
    isolating = batch_in(alias, "isolating", due_at=later)
    part = batch_in(alias, "sealed", due_at=later, parent=isolating)
    split = batch_in(alias, "split")
    job, refused = executed(alias, "send_now")
    assert (job.changed, refused) == (4, [(split.pk, "It waits for nothing: split")])
    assert is_due(alias, waiting)
    assert is_due(alias, part)
    assert OutboxBatch.objects.using(alias).get(pk=accepted.pk).next_poll_at <= timezone.now()


def test_batches_in_doubt_are_sent_again_without_the_listing(alias):
    doubtful = batch_in(alias, "in_doubt", in_doubt=True, due_at=timezone.now() + LATER)
    sealed = batch_in(alias, "sealed")
    job, refused = executed(alias, "release_doubt")
    assert (job.changed, refused) == (1, [(sealed.pk, "It is not in doubt: sealed")])
    assert is_due(alias, doubtful)
    assert OutboxAttempt.objects.using(alias).get(batch=doubtful).outcome == "skipped"


def test_given_up_batches_reject_their_records(alias):
    doubtful, sending = batch_in(alias, "in_doubt", in_doubt=True), batch_in(alias, "sending")
    record = record_in(alias, "in_flight", doubtful)
    job, refused = executed(alias, "give_up")
    assert (job.changed, refused) == (1, [(sending.pk, "A worker is sending it now")])
    assert [row.pk for row in select_records(alias, state="rejected")] == [record.pk]


def test_rows_of_another_model_are_refused(alias):
    job = jobs.create(alias, "give_up", by="anna")
    with pytest.raises(NotPossible, match="'give_up' changes batches"):
        jobs.collect(job, select_records(alias, state="rejected"))
