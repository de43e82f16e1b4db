"""``outbox_run``, and selecting records by run and label."""

from __future__ import annotations

import json
import threading

import pytest
from django.core.management import CommandError, call_command

from evermuse_outbox import outbox
from evermuse_outbox.database_clock import database_now
from evermuse_outbox.management.commands import outbox_run
from evermuse_outbox.models import OutboxAction, OutboxRecord
from evermuse_outbox.operations import RecordFilter
from evermuse_outbox.runs import watch_runs
from tests.records import record

pytestmark = pytest.mark.django_db


def run(capsys, *arguments, **options):
    """Run the command; return its exit status and its output."""
    try:
        call_command("outbox_run", *arguments, **options)
        status = 0
    except SystemExit as end:
        status = end.code
    return status, capsys.readouterr().out


@pytest.fixture
def nightly():
    made = outbox.start_run("nightly", labels={"source": "crm"}, expected=4)
    outbox.enqueue_many(map(record, range(3)), run=made)
    return made


def reject(number=1):
    pk = OutboxRecord.rows.order_by("pk").values_list("pk", flat=True)[number]
    OutboxRecord.rows.filter(pk=pk).update(closed_as="rejected")
    return pk


def test_it_lists_the_runs(capsys, nightly):
    assert run(capsys)[0] == 0
    outbox.start_run("empty").close()
    status, text = run(capsys)
    assert status == 0
    assert "nightly: 0 of 3 of 4 expected records have ended" in text
    assert text.index("empty") < text.index("nightly")
    _, text = run(capsys, "--json")
    assert [each["name"] for each in json.loads(text)["runs"]] == ["empty", "nightly"]


def test_without_a_run_it_says_how_to_make_one(capsys):
    assert "start_run" in run(capsys)[1]


def test_it_shows_a_run_by_its_name_or_number(capsys, nightly):
    reject()
    for name in ("nightly", str(nightly.id), f"#{nightly.id}"):
        status, text = run(capsys, name)
        assert status == 0
        for words in ("nightly", "pending", "source=crm", "25%", "1 rejected", "--close"):
            assert words in text
    _, text = run(capsys, "nightly", "--json")
    shown = json.loads(text)
    assert (shown["counts"]["pending"], shown["counts"]["rejected"], shown["state"]) == (2, 1, "open")


def test_it_closes_a_run_and_logs_who_did_it(capsys, nightly):
    assert run(capsys, "nightly", "--close", "--reason", "given up")[0] == 0
    action = OutboxAction.objects.get()
    assert (action.kind, action.target, action.reason) == ("close_run", "nightly", "given up")
    with pytest.raises(CommandError, match="closed already"):
        run(capsys, "nightly", "--close")


def test_a_finished_run_with_rejected_records_has_a_status_of_its_own(capsys, nightly):
    OutboxRecord.rows.all().update(closed_as="discarded")
    nightly.close()
    assert run(capsys, "nightly")[0] == 0
    OutboxRecord.rows.update(closed_as="rejected")
    status, text = run(capsys, "nightly", "--wait")
    assert status == outbox_run.NEEDS_PERSON
    assert f"outbox_retry --run {nightly.id}" in text


def test_the_overview_calls_a_run_finished_that_is_finished(capsys, nightly):
    reject()
    OutboxRecord.rows.pending().update(closed_as="superseded")
    nightly.close()
    assert watch_runs("default", database_now("default"))
    call_command("outbox_status", "--no-color")
    text = capsys.readouterr().out
    assert "nightly, is finished: 3 of 3 records have ended, 1 rejected." in text
    assert "It waits for a decision" in text


def test_it_waits_for_the_end(capsys, nightly, monkeypatch):
    assert run(capsys, "nightly", "--wait", "--timeout", "0")[0] == outbox_run.TIMED_OUT
    nightly.close()

    def finish(_):
        OutboxRecord.rows.update(closed_as="superseded")

    monkeypatch.setattr(outbox_run.time, "sleep", finish)
    assert run(capsys, "nightly", "--wait")[0] == 0
    assert threading.active_count()


@pytest.mark.parametrize(
    "arguments", [["typo"], ["99"], ["--wait"], ["--close"], ["nightly", "--workspace", "x"]]
)
def test_an_unknown_run_is_an_error_of_usage(arguments, nightly):
    with pytest.raises(CommandError) as caught:
        call_command("outbox_run", *arguments)
    assert caught.value.returncode == 2


# --- selecting ------------------------------------------------------------------------------------------------


def test_records_are_selected_by_run_and_label(nightly):
    outbox.enqueue(record(10), labels={"source": "crm"})
    outbox.enqueue(record(11), labels={"source": "erp"})
    outbox.enqueue(record(12))
    by_run, by_label = RecordFilter(run=nightly.id), RecordFilter(label="source=crm")
    assert (by_run.rows("default").count(), by_label.rows("default").count()) == (3, 4)
    assert RecordFilter(label="source=crm", run=nightly.id, state="pending").rows("default").count() == 3
    assert RecordFilter.from_json(by_run.to_json()) == by_run
    assert (str(by_run), str(by_label)) == (f"records, run {nightly.id}", "records, label source=crm")
    assert not by_run.is_empty


def test_rejected_records_of_a_run_are_retried(nightly, capsys):
    pk = reject()
    other = outbox.enqueue(record(9))
    OutboxRecord.rows.filter(pk=other.pk).update(closed_as="rejected")
    call_command("outbox_retry", "--run", "nightly", "--no-input", "--database", "default")
    assert OutboxRecord.objects.get(pk=pk).state == "pending"
    assert OutboxRecord.objects.get(pk=other.pk).state == "rejected"
    call_command("outbox_retry", "--label", "source=erp", "--no-input", "--database", "default")
    assert "Nothing is selected" in capsys.readouterr().out
    call_command("outbox_retry", "--run", "typo", "--no-input", "--database", "default")
    assert "no such run" in capsys.readouterr().out
