"""The choice of the next read: at the typical completion time, and no batch takes the reads of all others."""

from __future__ import annotations

import pytest

from evermuse_outbox.models import OutboxWorkspace
from tests.delivery.polling.load import MAX_REQUESTS_PER_BATCH, BusyWorkspace


def test_the_typical_completion_time_is_learned_and_used(context, alias, sandbox, clock):
    workspace = BusyWorkspace(context, alias, sandbox, clock, seconds=60)
    for _ in range(150):
        workspace.second_of_load()
    row = OutboxWorkspace.objects.using(alias).get(pk="default")
    assert 55 <= row.typical_completion_seconds <= 65
    assert max(workspace.delays()) <= 30


def test_a_listing_that_lags_behind_does_not_use_up_the_reads(context, alias, sandbox, clock, monkeypatch):
    if alias != "default":
        pytest.skip("the count does not depend on the database")
    workspace = BusyWorkspace(context, alias, sandbox, clock, seconds=60)
    space = sandbox._api.workspaces["default"]
    read = space.list_batches

    def lagging(limit, before):
        listed = [batch for batch in space.batches if batch.created_at <= clock.at.timestamp() - 15]
        return read(limit, len(listed) if before is None else before)

    monkeypatch.setattr(space, "list_batches", lagging)
    assert workspace.measure_requests_per_batch(200) <= MAX_REQUESTS_PER_BATCH
    assert workspace.open < 1_000 < workspace.sent


def test_batches_that_no_listing_shows_do_not_use_up_the_reads(context, alias, sandbox, clock, monkeypatch):
    if alias != "default":
        pytest.skip("the count does not depend on the database")
    workspace = BusyWorkspace(context, alias, sandbox, clock, seconds=30)
    space = sandbox._api.workspaces["default"]
    read = space.list_batches

    def lacking(limit, before):
        batches, cursor = read(limit, before)
        return [batch for batch in batches if int(batch.id[-2:]) % 20], cursor

    monkeypatch.setattr(space, "list_batches", lacking)
    assert workspace.measure_requests_per_batch(200) <= MAX_REQUESTS_PER_BATCH
    assert workspace.open < 1_000 < workspace.sent
    workspace.finish(60)


def test_a_typical_time_that_is_too_high_is_corrected(context, alias, sandbox, clock):
    if alias != "default":
        pytest.skip("the count does not depend on the database")
    workspace = BusyWorkspace(context, alias, sandbox, clock, seconds=2)
    OutboxWorkspace.objects.using(alias).ensure_row("default")
    OutboxWorkspace.objects.using(alias).update(typical_completion_seconds=600)
    assert workspace.measure_requests_per_batch(200) <= MAX_REQUESTS_PER_BATCH
    assert OutboxWorkspace.objects.using(alias).get(pk="default").typical_completion_seconds <= 20
    workspace.finish(20)
