"""The versions at work are counted, and features that an old worker does not know are named."""

from __future__ import annotations

import uuid
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command

from evermuse_outbox.database_clock import database_now
from evermuse_outbox.insight import find_problems
from evermuse_outbox.insight.doctor import examine_database
from evermuse_outbox.models import OutboxWorker
from evermuse_outbox.monitoring import (
    MISSING_AFTER,
    beat,
    heartbeats,
    schema_of,
    unknown_features,
    versions,
    versions_at_work,
)
from evermuse_outbox.version import SCHEMA, WORKER_VERSION

MIGRATIONS = Path(heartbeats.__file__).parent.parent / "migrations"


@pytest.fixture(autouse=True)
def no_beat_yet(monkeypatch):
    monkeypatch.setattr(heartbeats, "_beats", {})


@pytest.fixture
def feature(monkeypatch):
    """Return a list with the databases in which a feature of the newest migration is in use."""
    used = []
    added = versions.Feature("new things", SCHEMA, lambda using: using in used)
    monkeypatch.setattr(versions, "FEATURES", (added,))
    return used


def worker(alias, version, *, silent_for=timedelta(0)):
    at = database_now(alias) - silent_for
    fields = {"host": "h", "pid": 1, "version": version, "command": "c", "activity": "a"}
    OutboxWorker.objects.using(alias).create(pk=uuid.uuid4(), started_at=at, last_seen_at=at, **fields)


def test_the_number_is_that_of_the_newest_migration():
    assert max(path.name for path in MIGRATIONS.glob("0*.py")).startswith(f"{SCHEMA:04}_")


@pytest.mark.parametrize(
    ("version", "schema"), [("0.1.0", 0), (WORKER_VERSION, SCHEMA), ("1.0+x", 0), ("1.2+7", 7)]
)
def test_the_schema_of_a_version(version, schema):
    assert schema_of(version) == schema


def test_only_processes_at_work_count(alias):
    beat(alias, "tick")
    worker(alias, "0.1.0")
    worker(alias, "0.0.9", silent_for=2 * MISSING_AFTER)
    assert versions_at_work(alias) == {"0.1.0": 1, WORKER_VERSION: 1}


def test_two_versions_are_shown_and_no_failure(alias, feature):
    beat(alias, "tick")
    worker(alias, "0.1.0")
    (problem,) = find_problems(alias)
    assert problem.title == f"2 versions at work: 0.1.0 (1), {WORKER_VERSION} (1)"
    assert not problem.is_failure
    assert examine_database(alias) == []
    out = StringIO()
    call_command("outbox_status", "--overview", database=alias, stdout=out)
    assert f"2 versions at work: 0.1.0 (1), {WORKER_VERSION} (1)" in out.getvalue()


def test_a_feature_that_an_old_worker_does_not_know_is_a_failure(alias, feature):
    feature.append(alias)
    beat(alias, "tick")
    assert find_problems(alias) == []
    worker(alias, "0.1.0")
    (problem,) = find_problems(alias)
    assert problem.is_failure
    assert "new things" in problem.explanation
    (finding,) = examine_database(alias)
    assert (finding.area, "new things" in finding.problem) == ("workers", True)


def test_each_feature_can_be_asked_about_on_each_database(alias):
    assert unknown_features(alias, {"0.1.0": 1}) == []


def test_several_keys_are_a_feature_that_an_old_worker_would_break(alias, outbox_settings):
    assert unknown_features(alias, {"0.1.0+15": 1}) == []
    outbox_settings(API_KEYS=["em_sk_sandbox_2"])
    assert unknown_features(alias, {"0.1.0+15": 1, "0.1.0+16": 1}) == ["several API keys"]
    assert unknown_features(alias, {"0.1.0+16": 1}) == []
