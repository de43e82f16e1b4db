"""A workspace that the settings do not have any more: nothing of it is forgotten silently."""

from __future__ import annotations

import ast
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.utils import timezone

from evermuse_outbox import outbox
from evermuse_outbox.admin.lists.filters import WorkspaceFilter
from evermuse_outbox.database_clock import database_now
from evermuse_outbox.delivery.context import Clock
from evermuse_outbox.delivery.loop import Dispatcher
from evermuse_outbox.insight import find_problems, missing_workspaces
from evermuse_outbox.metrics.figures import read_samples
from evermuse_outbox.models import IncidentKind, OutboxDeferral, OutboxIncident, OutboxRecord, OutboxWorkspace
from evermuse_outbox.monitoring import observe
from evermuse_outbox.tasks import tick
from evermuse_outbox.upkeep import maintain_all
from tests.delivery.helpers import state_of
from tests.records import record
from tests.rows import batch_in, record_in
from tests.test_layering import modules

GONE = "gone"

READERS = {
    "evermuse_outbox.monitoring.versions": "only looks whether any workspace has several keys",
    "evermuse_outbox.admin.lists.filters": "the stored names are added",
    "evermuse_outbox.admin.lists.read_only": "whether a column is shown; the page of each row names its workspace",
    "evermuse_outbox.admin.overview.page": "permissions, with the stored names; `missing_workspaces` gives the problem",
    "evermuse_outbox.admin.pages.batch": "no request is possible without a key",
    "evermuse_outbox.admin.pages.group": "the page of a group for a new pause",
    "evermuse_outbox.admin.pages.workspace": "the page says that the settings lack the workspace",
    "evermuse_outbox.admin.rules.make": "the stored names are added",
    "evermuse_outbox.checks.workspaces": "settings only; W008 reports the rows of others",
    "evermuse_outbox.conf.settings": "the settings themselves",
    "evermuse_outbox.conf.workspace_function": "the settings themselves",
    "evermuse_outbox.delivery.context.throttles": "rate limits of keys, not rows of records",
    "evermuse_outbox.delivery.loop.dispatcher": "queues to deliver from: nothing is sent without a key",
    "evermuse_outbox.delivery.context.context": "queues to deliver from: nothing is sent without a key",
    "evermuse_outbox.delivery.rules.reading": "the stored names are added",
    "evermuse_outbox.indexing.conditional": "an index that only delivery uses",
    "evermuse_outbox.insight.explaining.explain": "explains the other case",
    "evermuse_outbox.insight.overview": "figures; `find_problems` has the others",
    "evermuse_outbox.insight.problems": "states; `missing_workspaces` has the others",
    "evermuse_outbox.insight.requests": "no request is possible without a key",
    "evermuse_outbox.insight.status": "states; the key `missing_workspaces` has the others",
    "evermuse_outbox.jobs.estimate": "a rate limit; without one there is no estimate",
    "evermuse_outbox.management.commands.outbox_batch": "no request is possible without a key",
    "evermuse_outbox.management.commands.outbox_doctor": "routes and keys; W008 reports the others",
    "evermuse_outbox.management.commands.outbox_import": "a new record needs a key",
    "evermuse_outbox.management.commands.outbox_pause": "a workspace that sends nothing needs no pause",
    "evermuse_outbox.management.commands.outbox_reconcile": "no request is possible without a key",
    "evermuse_outbox.management.commands.outbox_relay": "the first line of its output",
    "evermuse_outbox.management.commands.outbox_rule": "wake-ups, which need a key",
    "evermuse_outbox.management.commands.outbox_resume": "a workspace without a key cannot resume",
    "evermuse_outbox.management.repairs.command": "wake-ups, which need a key",
    "evermuse_outbox.management.repairs.selecting": "says that the name is unknown if nothing is selected",
    "evermuse_outbox.metrics.figures": "`missing_workspaces` adds the others",
    "evermuse_outbox.model_records.checks": "a declaration for new records",
    "evermuse_outbox.monitoring.incidents": "states; `missing_workspaces` adds the others",
    "evermuse_outbox.monitoring.missing": "finds the others",
    "evermuse_outbox.pressure.current": "how long a new record would wait, which needs a key",
    "evermuse_outbox.tasks": "queues to deliver from: nothing is sent without a key",
    "evermuse_outbox.testing.delivery": "what a test can send",
    "evermuse_outbox.testing.report": "no request is possible without a key",
}
"""Modules that read the configured workspaces, and why they forget no row of a removed one."""


def readers():
    """Yield the modules of the outbox that read an attribute ``workspaces`` of the settings."""
    for name, path in modules().items():
        if name.startswith("evermuse_outbox.sandbox"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_read = isinstance(node, ast.Attribute) and node.attr == "workspaces"
            if is_read and "overview" not in ast.unparse(node.value):
                yield name


def test_each_reader_of_the_configured_workspaces_is_known():
    assert set(readers()) == set(READERS), (
        "say in READERS why the rows of a removed workspace are not forgotten"
    )


@pytest.fixture
def removed(alias, outbox_settings):
    """A pending record and a sealed batch of a workspace that is not configured."""
    outbox_settings(DATABASES=[alias])
    row = record_in(alias, "pending")
    OutboxRecord.rows.using(alias).filter(pk=row.pk).update(
        workspace=GONE, enqueued_at=timezone.now() - timedelta(seconds=900)
    )
    batch_in(alias, "sealed", workspace=GONE)
    OutboxWorkspace.objects.using(alias).ensure_row(GONE)
    return row


def test_it_is_a_problem_an_incident_and_in_the_metrics(alias, removed):
    assert missing_workspaces(alias) == {GONE: {"pending": 1, "open_batches": 1}}
    (problem,) = (each for each in find_problems(alias) if each.workspace == GONE)
    assert "outbox_discard --workspace gone" in problem.explanation
    observe(alias, Clock.of(alias))
    incident = OutboxIncident.objects.using(alias).open().get(workspace=GONE)
    assert incident.kind == IncidentKind.WORKSPACE
    assert "1 pending records and 1 open batches wait" in incident.reason
    samples = {(each.metric, *each.labels[1:]): each.value for each in read_samples(alias)}
    assert samples["pending_records", GONE] == 1
    assert samples["lag_seconds", GONE] >= 900
    assert samples["workspace_state", GONE, "paused"] == 1


def by_celery(alias):
    tick()


def by_relay(alias):
    runs = Dispatcher(threads=1)
    runs.look(alias)
    runs.stop()


@pytest.mark.parametrize("look", [by_celery, by_relay])
def test_its_scheduled_records_are_pending_when_they_are_due(alias, outbox_settings, look):
    outbox_settings(DATABASES=[alias], WORKSPACES={"default": {}, GONE: {"API_KEY": "em_sk_gone"}})
    row = outbox.enqueue(record(1), using=alias, workspace=GONE, send_after=timedelta(seconds=60))
    outbox_settings(WORKSPACES={"default": {}})
    look(alias)
    assert (state_of(row), missing_workspaces(alias)) == ("scheduled", {})
    OutboxDeferral.objects.using(alias).update(due_at=timezone.now() - timedelta(seconds=1))
    look(alias)
    assert (state_of(row), missing_workspaces(alias)) == (
        "pending",
        {GONE: {"pending": 1, "open_batches": 0}},
    )


def test_the_filter_of_the_admin_offers_it(alias, removed, rf):
    class Lists:
        def get_queryset(self, request):
            return OutboxRecord.objects.using(alias)

    names = [name for name, _ in WorkspaceFilter.lookups(None, rf.get("/"), Lists())]
    assert names == ["default", GONE]


def test_the_drain_names_it(alias, removed):
    with pytest.raises(CommandError, match="workspace gone: it is not in the settings"):
        call_command("outbox_drain", timeout=0.0, stdout=StringIO())


def test_its_finished_rows_are_purged_after_their_retention(alias, outbox_settings):
    outbox_settings(DATABASES=[alias], RETENTION_DAYS=1)
    ended = timezone.now() - timedelta(days=3)
    batch = batch_in(alias, "complete", workspace=GONE, remote_id="r", finished_at=ended, record_count=1)
    row = record_in(alias, "delivered", batch)
    OutboxRecord.rows.using(alias).filter(pk=row.pk).update(workspace=GONE)
    maintain_all()
    assert not OutboxRecord.rows.using(alias).filter(pk=row.pk).exists()


def test_what_waits_can_be_discarded_without_its_key(alias, removed):
    call_command("outbox_discard", "--workspace", GONE, "--no-input", "--reason", "left", stdout=StringIO())
    assert state_of(removed) == "discarded"


def test_a_workspace_that_cannot_be_read_is_not_called_removed(alias, removed, outbox_settings):
    def fail():
        raise RuntimeError

    outbox_settings(DATABASES=[alias], WORKSPACES=fail)
    assert missing_workspaces(alias) == {}
    assert any("WORKSPACES" in problem.title for problem in find_problems(alias))
    outbox_settings(DATABASES=[alias], WORKSPACES=lambda: {GONE: {"API_KEY": "k", "RATE_LIMIT": 0}})
    assert missing_workspaces(alias) == {}
    assert any("['gone']['RATE_LIMIT']" in problem.explanation for problem in find_problems(alias))


def test_removed_workspaces_without_waiting_rows_cost_nothing(alias, removed, django_assert_num_queries):
    for number in range(20):
        OutboxWorkspace.objects.using(alias).ensure_row(f"left-{number}")
        batch_in(alias, "complete", workspace=f"left-{number}", remote_id=f"r{number}")
    database_now(alias)  # a process reads the clock of the database once a minute
    with django_assert_num_queries(4, connection=connections[alias]):
        assert missing_workspaces(alias) == {GONE: {"pending": 1, "open_batches": 1}}


@pytest.mark.parametrize("state", ["sealed", "sending", "in_doubt", "accepted", "isolating"])
def test_each_open_batch_of_a_removed_workspace_counts(alias, outbox_settings, state):
    outbox_settings(DATABASES=[alias])
    options = {"accepted": {"remote_id": "r", "next_poll_at": timezone.now()}}
    batch_in(alias, state, workspace=GONE, **options.get(state, {}))
    assert missing_workspaces(alias) == {GONE: {"pending": 0, "open_batches": 1}}
