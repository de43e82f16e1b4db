"""``outbox_doctor``: what is examined beside the tables, and what the command prints and returns."""

from __future__ import annotations

import dataclasses
import io
import json
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from evermuse_outbox import upkeep
from evermuse_outbox.conf import Secret
from evermuse_outbox.database_clock import database_now
from evermuse_outbox.insight.doctor import database, examine_api, examine_database
from evermuse_outbox.models import OutboxAttempt, OutboxWorker, OutboxWorkspace
from evermuse_outbox.ratelimit import ThrottleUnavailable
from evermuse_outbox.sandbox import Fault
from evermuse_outbox.schedule import beat_schedule
from tests.conftest import FreeThrottle

KEY = "em_sk_sandbox"


@pytest.fixture
def worker(alias):
    """A process that was seen just now."""
    now = database_now(alias)
    columns = {"host": "a", "pid": 1, "version": "0", "command": "celery worker", "activity": "relay"}
    return OutboxWorker.objects.using(alias).create(started_at=now, last_seen_at=now, **columns)


@pytest.fixture(autouse=True)
def correct_server(monkeypatch):
    monkeypatch.setattr(upkeep, "is_autovacuum_off", lambda using: False)
    monkeypatch.setattr(database, "measure_drift", lambda using: {"process": 0.0})


def run(alias, *options, **keys):
    """Return the exit status and the output of the command."""
    out, status = io.StringIO(), 0
    try:
        call_command("outbox_doctor", *options, database=alias, stdout=out, **keys)
    except SystemExit as error:
        status = error.code
    return status, out.getvalue()


@pytest.fixture
def problems(context, alias, worker, settings):
    """Return a function that runs the command and returns the problems that it finds, by area."""
    settings.SILENCED_SYSTEM_CHECKS = ["evermuse_outbox.W003"]  # the tests' SQLite

    def found(*options):
        status, output = run(alias, "--json", *options)
        findings = json.loads(output)["findings"]
        assert status == (1 if findings else 0)
        assert KEY not in output
        assert all(finding["remedy"] for finding in findings)
        return [(finding["area"], finding["problem"]) for finding in findings]

    return found


def test_an_installation_that_is_right(problems, alias, sandbox):
    assert problems() == []
    (read,) = sandbox.arrivals
    assert (read.method, read.path.partition("?")[0]) == ("GET", "/api/v1/ingest/batches")
    assert run(alias)[1] == "The workspace default sends without a proxy.\nEverything is right.\n"


def test_offline_makes_no_request(problems, sandbox):
    assert problems("--offline") == []
    assert sandbox.arrivals == []


def test_the_doctor_changes_nothing(problems, alias, sandbox):
    sandbox.fail_next(Fault(status=401, body={"error": {"code": "UNAUTHORIZED", "message": "no"}}, on="GET"))
    assert problems()
    assert not OutboxAttempt.objects.using(alias).exists()
    assert not OutboxWorkspace.objects.using(alias).exclude(state="active").exists()


# --- settings and storage -----------------------------------------------------------------------------


def test_invalid_settings_are_the_only_findings(problems, outbox_settings, sandbox):
    outbox_settings(LEASE="soon")
    ((area, problem),) = problems()
    assert area == "settings"
    assert "LEASE" in problem
    assert sandbox.arrivals == []


def test_a_system_check_is_a_finding_unless_it_is_silenced(problems, outbox_settings, sandbox, settings):
    outbox_settings(API_URL=sandbox.url, API_KEY=KEY, RATE_LIMIT=50)
    ((area, problem),) = problems()
    assert (area, "RATE_LIMIT" in problem) == ("settings", True)
    settings.SILENCED_SYSTEM_CHECKS += ["evermuse_outbox.W004"]
    assert problems() == []


def test_storage_parameters_that_are_missing(problems, alias):
    if connections[alias].vendor != "postgresql":
        pytest.skip("only PostgreSQL has storage parameters")
    with connections[alias].cursor() as cursor:
        cursor.execute("ALTER TABLE evermuse_outbox_outboxrecord RESET (fillfactor)")
        ((area, problem),) = problems("--offline")
        assert (area, "lacks fillfactor" in problem) == ("storage", True)
        cursor.execute("ALTER TABLE evermuse_outbox_outboxrecord SET (fillfactor = 50)")
    assert problems("--offline") == []


# --- the database -------------------------------------------------------------------------------------


def test_a_migration_that_is_not_applied(problems, alias):
    MigrationRecorder(connections[alias]).migration_qs.filter(
        app="evermuse_outbox", name="0018_pressure"
    ).delete()
    found = problems("--offline")
    assert found == [
        (
            "migrations",
            "Migrations are not applied: 0018_pressure. The tables were not compared.",
        )
    ]


def test_no_worker(problems, worker, alias):
    worker.delete(using=alias)
    ((area, problem),) = problems("--offline")
    assert (area, problem) == (
        "workers",
        "No worker was seen for 3 minutes, so nothing is sent. None was ever seen.",
    )


def test_a_worker_that_is_gone(problems, worker, alias):
    OutboxWorker.objects.using(alias).update(last_seen_at=database_now(alias) - timedelta(hours=1))
    ((area, problem),) = problems("--offline")
    assert area == "workers"
    assert "The last one was seen at 20" in problem


def test_a_beat_schedule_without_the_tasks_of_the_outbox(problems, worker, alias, settings):
    settings.CELERY_BEAT_SCHEDULE = {"other": {"task": "host.report"}}
    assert problems("--offline") == [
        ("workers", "CELERY_BEAT_SCHEDULE lacks evermuse_outbox.maintain and evermuse_outbox.tick.")
    ]
    settings.CELERY_BEAT_SCHEDULE = beat_schedule()
    assert problems("--offline") == []
    settings.CELERY_BEAT_SCHEDULE = {}
    OutboxWorker.objects.using(alias).update(command="outbox_relay")
    assert problems("--offline") == []


def test_a_clock_that_is_wrong(problems, alias, monkeypatch):
    monkeypatch.setattr(database, "measure_drift", lambda using: {"process": -90.0, "redis": 0.1})
    ((area, problem),) = problems("--offline")
    assert (area, "90.0 s behind" in problem) == ("clocks", True)


def test_a_database_that_does_not_answer_is_one_finding(alias, monkeypatch):
    def fail(using):
        raise connections[using].Database.OperationalError("gone")

    monkeypatch.setattr(database, "_unapplied_migrations", lambda using: fail_as_django(using, fail))
    (finding,) = examine_database(alias)
    assert finding.problem == "The database cannot be read: OperationalError: gone"


def fail_as_django(using, function):
    with connections[using].wrap_database_errors:
        function(using)


# --- the API ------------------------------------------------------------------------------------------

ANSWERS = {
    "a key that is refused": (
        Fault(status=401, body={"error": {"code": "UNAUTHORIZED", "message": "unknown key"}}),
        "refused the read",
    ),
    "a server error": (Fault.server_error(), "refused the read"),
    "a page of a proxy": (Fault(status=200, body=b"<html>hello</html>"), "no list of batches"),
    "no answer": (Fault.drop_before(), "did not answer"),
    "a limit": (Fault.too_many(5), "throttles"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_does_not_prove_the_key(problems, sandbox, name, monkeypatch, alias):
    fault, expected = ANSWERS[name]
    sandbox.fail_next(dataclasses.replace(fault, on="GET"))
    ((area, problem),) = problems()
    assert area == "api"
    assert expected in problem


def test_a_workspace_without_a_key(problems, outbox_settings, sandbox):
    outbox_settings(API_URL=sandbox.url, API_KEY=None)
    assert ("api", "The workspace has no API_KEY.") in problems()
    assert sandbox.arrivals == []


def test_the_read_takes_one_permit(context):
    assert examine_api(context) == []
    assert context.throttle.slots == 1


def test_a_rate_limit_without_a_free_permit_or_a_backend(context, sandbox):
    context.throttle.block(60)
    (finding,) = examine_api(context)
    assert "No permit" in finding.problem

    class Broken(FreeThrottle):
        def reserve(self, patience):
            raise ThrottleUnavailable("it does not answer")

    context = dataclasses.replace(context, throttle=Broken())
    (finding,) = examine_api(context)
    assert "it does not answer" in finding.problem
    assert "migrate" in finding.remedy
    redis = dataclasses.replace(context.settings, redis_url=Secret("redis://127.0.0.1:1"))
    (finding,) = examine_api(dataclasses.replace(context, settings=redis))
    assert "REDIS_URL" in finding.remedy
    assert sandbox.arrivals == []


def test_the_text_says_what_to_do(problems, worker, alias):
    worker.delete(using=alias)
    status, output = run(alias, "--offline")
    assert status == 1
    lines = output.splitlines()
    assert lines[1].startswith(f"workers · {alias}: No worker was seen")
    assert lines[2].startswith("  What to do: Start a Celery worker")
    assert lines[-1] == "1 thing is wrong."


def test_the_route_of_each_workspace_is_printed_without_credentials(context, alias, worker, outbox_settings):
    proxy = "http://user:some-password@proxy.example:3128"
    outbox_settings(
        API_KEY=KEY, WORKSPACES={"emea": {"API_KEY": KEY, "API_URL": "https://api.test", "PROXY": proxy}}
    )
    _, output = run(alias, "--offline")
    assert "The workspace emea sends through the proxy http://proxy.example:3128 (PROXY)." in output
    assert "some-password" not in output
    _, output = run(alias, "--offline", "--json")
    assert json.loads(output)["routes"]["emea"] == "through the proxy http://proxy.example:3128 (PROXY)"
    assert "some-password" not in output
