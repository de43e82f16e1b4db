"""The steps that the benchmark of query plans explains, on a small table."""

from __future__ import annotations

import pytest

from benchmarks import plans
from evermuse_outbox.models import BatchState, OutboxBatch, OutboxRecord
from tests.records import enqueue


@pytest.mark.django_db
def test_each_step_changes_what_it_is_named_after(sandbox, clock, outbox_settings):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=2)
    enqueue("default", 1, 2, 3, 4)
    plans._send(plans._open_context())
    plans._lease(plans._open_context())
    assert len(sandbox.records()) == 4
    batches = OutboxBatch.objects.all()
    assert {batch.state for batch in batches} == {BatchState.ACCEPTED}
    clock.move(60)  # the sandbox completes batches by this clock
    plans._poll(plans._open_context(60))
    assert {batch.state for batch in batches.all()} == {BatchState.COMPLETE}
    plans._purge(plans._open_context(30 * 86_400), 60)
    assert not OutboxRecord.objects.exists()
