"""The management commands: output, errors and exit status."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.utils import timezone

from evermuse_outbox import outbox
from evermuse_outbox.database_clock import database_now
from evermuse_outbox.delivery.loop import Dispatcher, poll, relay
from evermuse_outbox.management.commands import outbox_drain, outbox_relay, outbox_status
from evermuse_outbox.models import (
    BatchState,
    OutboxBatch,
    OutboxGroup,
    OutboxRecord,
    OutboxWorker,
    OutboxWorkspace,
    RecordState,
    WorkspaceState,
)
from evermuse_outbox.sandbox import Sandbox
from tests.records import record
from tests.rows import batch_in, group, record_in

ROOT = Path(__file__).resolve().parent.parent


def run(name, *arguments):
    out = StringIO()
    call_command(name, *arguments, stdout=out)
    return out.getvalue()


def test_resume_does_not_end_a_hold_after_a_restore(alias):
    rows = OutboxWorkspace.objects.using(alias)
    rows.mark_restored("default", "a backup")
    assert "manage.py outbox_reconcile --workspace default --release" in run(
        "outbox_resume", "--database", alias
    )
    assert rows.get().state == WorkspaceState.RESTORED
    assert "restored because: a backup" in run("outbox_status", "--database", alias, "--no-color")


# --- outbox_status ------------------------------------------------------------------------------------


def test_status_as_json_has_exactly_this_shape(alias):
    read = json.loads(run("outbox_status", "--json", "--database", alias))
    names = [
        "records",
        "batches",
        "oldest_unsent_seconds",
        "workspaces",
        "missing_workspaces",
        "waiting_batches",
        "paused_groups",
        "clocks",
        "tables",
        "overview",
    ]
    assert list(read) == names
    assert read["records"] == {state.value: 0 for state in RecordState}
    assert read["batches"] == {state.value: 0 for state in BatchState}
    assert read["oldest_unsent_seconds"] is None
    assert read["workspaces"] == {"default": {"state": "active"}}
    assert read["paused_groups"] == []

    outbox.enqueue(record(), using=alias)
    read = json.loads(run("outbox_status", "--json", "--database", alias))
    assert read["records"]["pending"] == 1
    assert isinstance(read["oldest_unsent_seconds"], float)


def test_status_as_a_table(alias):
    for state in ("pending", "pending", "rejected"):
        record_in(alias, state)
    OutboxWorkspace.objects.using(alias).create(
        name="default", state=WorkspaceState.PAUSED, reason="the key is wrong"
    )
    lines = run("outbox_status", "--database", alias, "--no-color").splitlines()
    first = lines.index("Records")
    assert lines[first + 1] == f"  pending    {2:>12}  {'█' * 40}"
    assert f"  rejected   {1:>12}  {'█' * 20}" in lines
    assert any(line.startswith("Oldest unsent record: ") and line.endswith(" s") for line in lines)
    assert "Workspace default: paused because: the key is wrong" in lines


def check(*arguments):
    """Return the exit status and the output of ``outbox_status --check``."""
    try:
        return 0, run("outbox_status", "--check", "--no-color", *arguments)
    except SystemExit as error:
        return error.code, ""


def worker_seen(alias, seconds_ago=0):
    at = database_now(alias) - timedelta(seconds=seconds_ago)
    fields = {"host": "h", "pid": 1, "version": "1", "command": "c", "activity": "a"}
    OutboxWorker.objects.using(alias).create(pk=uuid.uuid4(), started_at=at, last_seen_at=at, **fields)


def test_the_check_ends_with_a_status(alias, outbox_settings):
    outbox_settings(DATABASES=[alias])
    worker_seen(alias, 500)
    assert check()[0] == 1
    worker_seen(alias)
    assert check() == (0, "Nothing disturbs the delivery.\n")
    row = record_in(alias, "pending")
    record_in(alias, "rejected")
    OutboxRecord.rows.using(alias).filter(pk=row.pk).update(
        enqueued_at=database_now(alias) - timedelta(seconds=100)
    )
    status, text = check()
    assert status == 0
    assert "1 record is rejected" in text
    assert check("--max-lag", "90")[0] == 1
    assert check("--max-lag", "110")[0] == 0


@pytest.mark.django_db
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "soon"])
def test_the_limit_of_the_check_is_a_positive_number(value):
    with pytest.raises(CommandError, match="--max-lag"):
        run("outbox_status", "--check", "--max-lag", value)


def test_the_check_as_json(alias, outbox_settings, capsys):
    outbox_settings(DATABASES=[alias])
    with pytest.raises(SystemExit):
        call_command("outbox_status", "--check", "--json")
    read = json.loads(capsys.readouterr().out)
    assert read["is_healthy"] is False
    assert [problem["kind"] for problem in read["problems"]] == ["workers"]
    worker_seen(alias)
    assert json.loads(check("--json")[1]) == {"is_healthy": True, "problems": []}


def test_the_overview_alone(alias, outbox_settings):
    outbox_settings(DATABASES=[alias])
    worker_seen(alias)
    record_in(alias, "pending")
    text = run("outbox_status", "--overview", "--no-color")
    assert "Workers seen in the last 3 minutes: 1" in text
    assert "Traffic of default: last minute 0 records accepted" in text
    assert "Records" not in text.splitlines()
    read = json.loads(run("outbox_status", "--overview", "--json"))
    assert read["workspaces"][0]["pending"] == {"value": 1, "precision": "exact"}


def test_status_as_a_table_shows_times_in_whole_seconds(alias):
    until = datetime(2026, 3, 1, 12, 30, 5, 678, tzinfo=UTC)
    OutboxWorkspace.objects.using(alias).create(
        name="default", state=WorkspaceState.THROTTLED, blocked_until=until, reason="HTTP 429"
    )
    lines = run("outbox_status", "--database", alias, "--no-color").splitlines()
    assert "Workspace default: throttled until 2026-03-01 12:30:05 UTC because: HTTP 429" in lines


def test_status_of_an_empty_outbox_as_a_table(alias):
    lines = run("outbox_status", "--database", alias, "--no-color").splitlines()
    assert "█" not in "".join(lines)
    assert {"Oldest unsent record: none", "Workspace default: active"} <= set(lines)


@pytest.mark.parametrize("state", RecordState)
def test_status_explains_one_record(alias, state):
    row = record_in(alias, state)
    text = run("outbox_status", "--record", str(row.pk), "--database", alias)
    assert text.startswith(f"message #{row.pk} is {state.label}. ")
    assert len(text) > len(f"message #{row.pk} is {state.label}. ") + 10


def test_status_of_an_unknown_record(alias):
    with pytest.raises(CommandError, match=r"No record 99 .* may have been purged"):
        run("outbox_status", "--record", "99", "--database", alias)


@pytest.mark.parametrize("name", ["outbox_status", "outbox_drain"])
def test_an_unknown_database_is_an_error(name):
    with pytest.raises(CommandError, match="invalid choice: 'nowhere'"):
        run(name, "--database", "nowhere")


# --- outbox_drain -------------------------------------------------------------------------------------


@pytest.fixture
def steps(monkeypatch):
    """Functions that run in place of the sleeps between two queries of the drain."""
    functions = []
    clock = {"now": 0.0}

    def sleep(seconds):
        clock["now"] += seconds
        if functions:
            functions.pop(0)()

    monkeypatch.setattr(outbox_drain.time, "sleep", sleep)
    monkeypatch.setattr(outbox_drain.time, "monotonic", lambda: clock["now"])
    return functions


def test_drain_of_an_empty_outbox_ends_at_once(alias, steps):
    assert run("outbox_drain", "--database", alias, "--no-color") == "Drained: the outbox is empty.\n"


def test_drain_waits_until_all_batches_are_complete(alias, context, clock, steps):
    outbox.enqueue_many((record(number) for number in range(3)), using=alias)
    steps += [lambda: relay(context, 60), lambda: clock.move(5), lambda: poll(context, 60)]
    assert run("outbox_drain", "--database", alias, "--no-color") == "Drained: 3 delivered.\n"
    assert steps == []


def test_drain_does_not_wait_for_rejected_records(alias, steps):
    for _ in range(2):
        record_in(alias, "rejected")
    lines = run("outbox_drain", "--database", alias, "--no-color").splitlines()
    assert lines[0] == "Drained: 2 rejected."
    assert lines[1].startswith("2 rejected records need a decision")


def test_drain_counts_one_rejected_record(alias, steps):
    record_in(alias, "rejected")
    lines = run("outbox_drain", "--database", alias, "--no-color").splitlines()
    assert lines[1].startswith("1 rejected record needs a decision")


def test_drain_fails_after_the_timeout_and_says_what_is_left(alias, steps):
    outbox.enqueue_many((record(number) for number in range(2)), using=alias)
    batch_in(alias, BatchState.IN_DOUBT, record_count=1_000)
    batch_in(alias, BatchState.ACCEPTED, next_poll_at=timezone.now())
    with pytest.raises(CommandError) as caught:
        run("outbox_drain", "--timeout", "3", "--database", alias)
    assert caught.value.returncode == 1
    assert str(caught.value) == (
        "Not drained after 3 s: 2 records pending, 1,000 records sealed but not sent, "
        "1 batches not finished by Evermuse. "
        "Is a worker running (celery worker -B, or manage.py outbox_relay)?"
    )


def test_drain_that_fails_says_what_is_paused(alias, steps):
    outbox.enqueue(record(), using=alias)
    OutboxWorkspace.objects.using(alias).create(
        name="default", state=WorkspaceState.PAUSED, reason="the key is wrong."
    )
    with pytest.raises(CommandError, match=r"Blocked: workspace default: the key is wrong\.$"):
        run("outbox_drain", "--timeout", "0", "--database", alias)


# --- outbox_relay, in this process --------------------------------------------------------------------


def test_the_threads_of_relay_do_not_grow_with_the_workspaces(outbox_settings):
    outbox_settings(DATABASES=["default"], WORKSPACES={"eu": {"API_KEY": "em_sk_eu"}})
    dispatcher = Dispatcher(2)
    names = [name for name, _ in outbox_relay._steps(dispatcher)]
    assert names == ["maintain", "jobs of default", "look at default"]
    dispatcher.stop()


def test_relay_names_a_few_workspaces(outbox_settings):
    outbox_settings(WORKSPACES={f"w{number}": {"API_KEY": "em_sk_w"} for number in range(1_000)})
    assert outbox_relay._describe_workspaces().endswith("w7, w8 and 991 more workspaces")


def test_relay_needs_a_thread(outbox_settings):
    with pytest.raises(CommandError, match="at least 1"):
        run("outbox_relay", "--concurrency", "0")


@pytest.mark.django_db
@pytest.mark.parametrize("error", [OperationalError("gone away"), RuntimeError("unforeseen")])
def test_relay_continues_after_an_error(monkeypatch, caplog, error):
    monkeypatch.setattr(outbox_relay, "close_thread_connections", lambda: None)
    monkeypatch.setattr(outbox_relay, "ERROR_PAUSE", 0)
    stop, steps = threading.Event(), []

    def step():
        steps.append(len(steps))
        if len(steps) == 1:
            raise error
        stop.set()
        return 0.0

    outbox_relay._repeat(stop, step)
    assert steps == [0, 1]
    assert type(error).__name__ in caplog.text
    assert str(error) not in caplog.text  # it could quote payload


@pytest.mark.commits
def test_relay_maintains(alias, outbox_settings):
    outbox_settings(DATABASES=[alias])
    batch_in(alias, BatchState.SENDING)
    assert outbox_relay._maintain() == 1.0
    assert OutboxBatch.objects.using(alias).get().state == BatchState.IN_DOUBT


# --- the gate for foreign text ------------------------------------------------------------------------

ODD = "a\n\x1b[31mb\x85\u202e em_sk_0123456789"


def test_a_command_writes_one_clean_line_and_adds_its_style_after_the_gate():
    output = StringIO()
    command = outbox_status.Command(stdout=output, force_color=True)
    command.stdout.write(ODD)
    command.stdout.write("a\nb", lambda text: f"\x1b[1m{text}\x1b[0m")
    assert output.getvalue() == "a \ufffd[31mb \ufffd em_sk_…\n\x1b[1ma b\n\x1b[0m"


def test_the_error_of_a_command_is_clean(monkeypatch):
    def fail(*_, **__):
        raise CommandError(ODD)

    monkeypatch.setattr(outbox_status.Command, "handle", fail)
    with pytest.raises(CommandError) as caught:
        call_command("outbox_status")
    assert str(caught.value) == "a \ufffd[31mb \ufffd em_sk_…"


def test_status_shows_names_of_the_host_in_one_clean_line(alias, outbox_settings):
    outbox_settings(DATABASES=[alias])
    group(alias, "paused", product_id=ODD, reason="no", advice="none")
    output = StringIO()
    call_command("outbox_status", database=alias, stdout=output)
    (line,) = [line for line in output.getvalue().splitlines() if "is paused" in line]
    assert "\x1b" not in line
    assert "em_sk_0" not in line


# --- the commands as processes ------------------------------------------------------------------------


@pytest.fixture
def host(tmp_path):
    """A function that starts commands of the example project, which has a new database."""
    kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    with Sandbox(batch_seconds=0) as sandbox:
        variables = {
            "DJANGO_SETTINGS_MODULE": "example_project.settings",
            "EXAMPLE_VAR_DIR": str(tmp_path),
            "EVERMUSE_API_URL": sandbox.url,
        }

        def start(*arguments):
            return subprocess.Popen(
                [sys.executable, "manage.py", *arguments],
                cwd=ROOT,
                env=kept | variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )

        done = start("migrate", "--verbosity", "0")
        assert (done.communicate(timeout=120)[0], done.returncode) == ("", 0)
        yield start


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_relay_stops_after_a_signal(host, number):
    process = host("outbox_relay")
    try:
        greeting = process.stdout.readline()
        assert greeting.startswith("Relaying for default")
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert (process.returncode, out.splitlines()[-1]) == (0, "Stopped.")


def test_the_exit_status_of_drain(host):
    done = host("outbox_drain")
    out, _ = done.communicate(timeout=60)
    assert (done.returncode, out) == (0, "Drained: the outbox is empty.\n")
    enqueue = "from evermuse_outbox import outbox; from tests.records import record; outbox.enqueue_many([record()])"
    host("shell", "--no-imports", "-c", enqueue).communicate(timeout=60)
    late = host("outbox_drain", "--timeout", "0")
    out, _ = late.communicate(timeout=60)
    assert late.returncode == 1
    assert "CommandError: Not drained after 0 s: 1 records pending" in out


# --- outbox_resume ------------------------------------------------------------------------------------


def test_resume_makes_everything_active_and_says_what_it_was(alias):
    OutboxWorkspace.objects.using(alias).create(
        name="default", state=WorkspaceState.PAUSED, reason="the key is wrong"
    )
    group(alias)
    lines = run("outbox_resume", "--database", alias).splitlines()
    assert lines[0] == "Workspace default is active again. It was paused: the key is wrong"
    assert lines[1].startswith(
        "Group message · prod-abc of workspace default is active again. It was paused: 3 batches"
    )
    assert OutboxWorkspace.objects.using(alias).get().state == WorkspaceState.ACTIVE
    assert (
        run("outbox_resume", "--database", alias) == "Nothing to resume: no workspace or group is paused.\n"
    )


def test_resume_of_a_group_changes_nothing_else(alias):
    OutboxWorkspace.objects.using(alias).create(name="default", state=WorkspaceState.PAUSED)
    group(alias)
    group(alias, product_id="prod-other")
    assert "is active again" in run("outbox_resume", "--group", "message", "prod-abc", "--database", alias)
    assert OutboxWorkspace.objects.using(alias).get().state == WorkspaceState.PAUSED
    assert OutboxGroup.objects.using(alias).get().product_id == "prod-other"


def test_resume_obeys_a_retry_after(alias):
    until = timezone.now() + timedelta(hours=1)
    OutboxWorkspace.objects.using(alias).create(
        name="default", state=WorkspaceState.THROTTLED, blocked_until=until
    )
    assert "stays throttled" in run("outbox_resume", "--database", alias)
    assert OutboxWorkspace.objects.using(alias).get().state == WorkspaceState.THROTTLED


def test_resume_that_changes_nothing_says_what_was_selected(alias):
    group(alias)
    select = ("outbox_resume", "--database", alias)
    assert "no group message · other is paused" in run(*select, "--group", "message", "other")
    group_of = (*select, "--workspace", "default", "--group", "message", "other")
    assert "no group message · other of workspace default is paused" in run(*group_of)
    run(*select)
    assert "neither workspace default nor a group of it is paused" in run(*select, "--workspace", "default")


def test_resume_of_an_unknown_workspace():
    with pytest.raises(CommandError, match="known: default"):
        run("outbox_resume", "--workspace", "nowhere")
