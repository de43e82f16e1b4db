"""Metrics: figures of a real delivery on every database, in a format that Prometheus' own parser reads."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connections
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from evermuse_outbox import metrics
from evermuse_outbox.database_clock import database_now
from evermuse_outbox.delivery.loop import relay
from evermuse_outbox.insight import overview, workspaces
from evermuse_outbox.metrics import METRICS, OutboxCollector, collector, expose, figures
from evermuse_outbox.models import OutboxBatch, OutboxRejection, OutboxWorker
from evermuse_outbox.sandbox import Fault
from tests.delivery.helpers import deliver
from tests.models.rows import add_batch, add_group, add_record
from tests.records import enqueue

P = "evermuse_outbox_"


@pytest.fixture
def read(alias):
    """Return a function that scrapes the database. It returns the values by name and labels."""

    def scrape():
        families = text_string_to_metric_families(expose((alias,)).decode())
        return {
            (sample.name, *(sample.labels[label] for label in METRICS[sample.name].labels)): sample.value
            for family in families
            for sample in family.samples
        }

    return scrape


@pytest.fixture
def now_of_the_database(monkeypatch, context):
    """Let the figures be of the time of the test's clock."""
    monkeypatch.setattr(overview, "database_now", lambda using: context.clock.now())


# --- the figures --------------------------------------------------------------------------------------


def test_an_empty_outbox_has_zeros(alias, read, settings):
    values = read()
    where = (alias, "default")
    assert values[f"{P}database_up", alias] == 1
    assert values[f"{P}pending_records", *where] == 0
    assert values[f"{P}lag_seconds", *where] == 0
    assert values[f"{P}workspace_state", *where, "active"] == 1
    assert values[f"{P}workspace_state", *where, "paused"] == 0
    assert values[f"{P}batches", *where, "in_doubt"] == 0
    assert values[f"{P}workers", alias] == 0
    assert values[f"{P}open_incidents", alias, "no_worker"] == 0
    assert values[f"{P}operations", alias, "running"] == 0
    assert values[f"{P}sealed_batches_total", *where] == 0


def test_the_figures_of_a_delivery(context, alias, clock, read, now_of_the_database):
    enqueue(alias, 1, 2, 3, invalid=[3])
    waiting = add_record(alias, enqueued_at=context.clock.now() - timedelta(seconds=90))
    values = read()
    assert values[f"{P}pending_records", alias, "default"] == 4
    assert values[f"{P}lag_seconds", alias, "default"] == 90
    waiting.delete()

    relay(context, 1)
    values = read()
    assert values[f"{P}batches", alias, "default", "accepted"] == 1
    assert values[f"{P}in_flight_records", alias, "default"] == 3
    assert values[f"{P}lag_seconds", alias, "default"] == 0
    assert values[f"{P}requests", alias, "default", "ingest", "accepted", "202"] == 1
    assert values[f"{P}accepted_records", alias, "default"] == 3
    assert values[f"{P}sealed_batches_total", alias, "default"] == 1
    assert values[f"{P}rejected_records", alias] == 1
    assert [value for key, value in values.items() if key[0] == f"{P}rejections"] == [1]
    assert values[f"{P}rate_limit_used_ratio", alias, "default"] == pytest.approx(1 / 600)
    assert 0 < values[f"{P}request_duration_seconds", alias, "default", "0.95"] < 30

    deliver(context, clock)
    values = read()
    assert values[f"{P}delivered_records", alias, "default"] == 2
    clock.move(4_000)
    values = read()
    assert values[f"{P}accepted_records", alias, "default"] == 0
    assert values[f"{P}delivered_records", alias, "default"] == 0
    assert not [key for key in values if key[0] == f"{P}requests"]


def test_a_batch_in_doubt_and_a_workspace_that_fails(
    context, alias, sandbox, clock, read, now_of_the_database
):
    enqueue(alias, 1)
    sandbox.fail_next(Fault.drop_after())
    relay(context, 1)
    clock.move(30)
    values = read()
    assert values[f"{P}batches", alias, "default", "in_doubt"] == 1
    assert values[f"{P}in_doubt_seconds", alias, "default"] == 30
    assert values[f"{P}workspace_state", alias, "default", "backing_off"] == 1
    assert values[f"{P}workspace_state", alias, "default", "active"] == 0
    assert values[f"{P}workspace_failures", alias, "default"] == 1


def test_groups_workers_and_the_silence_of_workers(alias, read):
    add_group(alias, "paused")
    now = database_now(alias)
    columns = {"host": "a", "version": "0", "command": "celery worker", "activity": "relay"}
    for pid, seconds in ((1, 60), (2, 300)):
        OutboxWorker.objects.using(alias).create(
            pid=pid, started_at=now, last_seen_at=now - timedelta(seconds=seconds), **columns
        )
    values = read()
    assert values[f"{P}problems", alias, "group"] == 1
    assert values[f"{P}workers", alias] == 1
    assert values[f"{P}worker_silence_seconds", alias] == pytest.approx(60, abs=5)


def test_without_any_worker_the_silence_is_the_lag(alias, read):
    add_record(alias, enqueued_at=database_now(alias) - timedelta(seconds=500))
    assert read()[f"{P}worker_silence_seconds", alias] == pytest.approx(500, abs=5)


def test_counts_that_are_not_exact_say_so(alias, read, monkeypatch):
    monkeypatch.setattr(workspaces, "MAX_COUNTED", 2)
    monkeypatch.setattr(overview, "MAX_COUNTED_REJECTED", 2)
    add_record(alias)
    add_record(alias, "rejected")
    exact = read()
    for _ in range(3):
        add_record(alias)
        add_record(alias, "rejected")
    values = read()
    for name, where in (("pending_records", (alias, "default")), ("rejected_records", (alias,))):
        assert (exact[f"{P}{name}", *where], exact[f"{P}{name}_exact", *where]) == (1, 1)
        assert values[f"{P}{name}", *where] >= 2
        assert values[f"{P}{name}_exact", *where] == 0


def test_the_number_of_codes_is_bounded(alias, read):
    record, now = add_record(alias, "rejected"), database_now(alias)
    for number in range(25):
        OutboxRejection.local(record.pk, f"CODE_{number}", "no", now).save(using=alias)
    codes = {key[2]: value for key, value in read().items() if key[0] == f"{P}rejections"}
    assert len(codes) == figures.MAX_CODES + 1
    assert codes["other"] == 5


def test_the_states_of_open_batches_are_those_of_the_model():
    assert set(figures.OPEN_STATES) == {state for state in figures.BatchState if is_open(state)}


def is_open(state):
    query = str(OutboxBatch.objects.open().query)
    return re.search(rf"\b{state.value}\b", query.partition("WHERE")[2]) is not None


def test_the_number_of_statements_does_not_depend_on_the_rows(alias, read):
    def statements():
        with CaptureQueriesContext(connections[alias]) as captured:
            read()
        return len(captured)

    add_record(alias)
    add_record(alias, "in_flight", batch=add_batch(alias, "accepted"))
    read()
    before = statements()
    for _ in range(5):
        add_record(alias)
        add_batch(alias, "accepted")
    assert statements() == before <= 60


# --- the format ---------------------------------------------------------------------------------------


def test_each_metric_has_its_type_its_labels_and_its_help(context, alias, clock):
    enqueue(alias, 1, 2, invalid=[2])
    deliver(context, clock)
    families = {family.name: family for family in text_string_to_metric_families(expose((alias,)).decode())}
    for name, metric in METRICS.items():
        family = families[name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        assert all(set(sample.labels) == set(metric.labels) for sample in family.samples)
    assert {name.removesuffix("_total") for name in METRICS} == set(families)


@pytest.mark.parametrize("name", METRICS)
def test_names_follow_the_conventions(name):
    metric = METRICS[name]
    assert re.fullmatch(r"evermuse_outbox(_[a-z]+)+", name)
    assert (metric.kind == "counter") == name.endswith("_total")
    assert not re.search(r"_(ms|millis\w*|minutes|hours|percent|bytes_total|gauge|counter|count)\b", name)
    assert all(re.fullmatch(r"[a-z]+", label) for label in metric.labels)
    if {"seconds", "time", "duration"} & set(name.split("_")):
        assert name.endswith("_seconds")
    assert metric.help.endswith(".")


def test_a_host_can_register_the_collector_without_a_database():
    registry = CollectorRegistry(auto_describe=True)
    registry.register(OutboxCollector(("missing",)))


# --- failures, view and command -----------------------------------------------------------------------


def test_a_database_that_does_not_answer_is_a_metric_and_a_warning(alias, read, monkeypatch, caplog):
    def fail(using):
        raise OperationalError("secret words")

    monkeypatch.setattr(collector, "read_samples", fail)
    values = read()
    assert values[f"{P}database_up", alias] == 0
    assert set(values) == {(f"{P}database_up", alias)}
    assert "secret" not in caplog.text


def test_the_view(alias, outbox_settings):
    outbox_settings(DATABASES=[alias])
    response = metrics.view(RequestFactory().get("/metrics"))
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/plain; version=0.0.4")
    assert f'{P}database_up{{database="{alias}"}} 1.0' in response.content.decode()
    assert metrics.view(RequestFactory().post("/metrics")).status_code == 405


def test_the_command_prints_what_the_view_returns(alias):
    out = io.StringIO()
    call_command("outbox_metrics", database=alias, stdout=out)
    families = {family.name for family in text_string_to_metric_families(out.getvalue())}
    assert f"{P}lag_seconds" in families


def test_without_the_package_the_command_says_what_to_install(alias, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(CommandError, match=r"pip install .evermuse-outbox\[prometheus\]"):
        call_command("outbox_metrics", database=alias)


def test_importing_the_package_needs_no_client():
    code = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "import django; from django.conf import settings\n"
        "settings.configure(INSTALLED_APPS=['evermuse_outbox']); django.setup()\n"
        "import evermuse_outbox.metrics"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
