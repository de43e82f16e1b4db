"""``outbox_erase``: what it selects, reports, prints and refuses, and its exit statuses."""

from __future__ import annotations

import json
import shlex
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError

from evermuse_outbox import outbox
from evermuse_outbox.management.commands import outbox_erase
from evermuse_outbox.models import OutboxAction, OutboxRecord
from tests.delivery.helpers import deliver
from tests.records import enqueue, record

ADDRESS = "ada@example.com"
PERSON = {"id": "u-1", "role": "external", "email": ADDRESS}


def run(alias, *arguments):
    """Return the exit status and the output of the command."""
    out = StringIO()
    try:
        call_command("outbox_erase", *arguments, "--database", alias, stdout=out, stderr=StringIO())
    except CommandError as error:
        return error.returncode, out.getvalue() + str(error)
    return 0, out.getvalue()


@pytest.fixture
def rows(context, alias, clock):
    """Three records: one delivered and one pending of the person, and another one."""
    delivered = outbox.enqueue(record(1, _participants=[PERSON]), using=alias)
    deliver(context, clock)
    pending = outbox.enqueue(record(2, _participants=[PERSON]), using=alias)
    return delivered, pending, outbox.enqueue(record(3), using=alias)


@pytest.fixture
def report(tmp_path):
    return tmp_path / "report.ndjson"


def left(alias):
    return list(OutboxRecord.rows.using(alias).order_by("pk").values_list("pk", flat=True))


def test_a_participant_is_erased_with_a_report(alias, rows, report, context):
    arguments = ["--participant", ADDRESS, "--report", str(report), "--no-input"]
    status, text = run(alias, *arguments, "--reason", f"request of {ADDRESS.upper()}")
    assert status == 0
    assert "Erased 2 records." in text
    assert "Evermuse has 1 of them and may have 0. It refused 0, and 1 were never sent." in text
    assert left(alias) == [rows[2].pk]
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert [(line["record"], line["at_evermuse"], line["vendor_ids"]) for line in lines] == [
        (rows[0].pk, "has", {"message_id": "msg-1"}),
        (rows[1].pk, "never_sent", {"message_id": "msg-2"}),
    ]
    (request,) = lines[0]["requests"]
    assert request["remote_id"]
    assert report.stat().st_mode & 0o777 == 0o600
    action = OutboxAction.objects.using(alias).get()
    assert (action.kind, action.records, action.reason) == ("erase", 2, "request of (erased)")
    assert action.target.startswith("participant a… (SHA-256 ")
    assert ADDRESS not in action.target


def test_a_dry_run_counts_and_reports_and_changes_nothing(alias, rows, report):
    status, text = run(alias, "--participant", "u-1", "--dry-run", "--report", str(report))
    assert (status, "Would erase 2 records." in text) == (0, True)
    assert len(report.read_text().splitlines()) == 2
    assert len(left(alias)) == 3
    assert not OutboxAction.objects.using(alias).exists()


def test_the_result_as_json(alias, rows, report):
    status, text = run(alias, "--record", str(rows[2].pk), "--report", str(report), "--no-input", "--json")
    assert (status, json.loads(text)) == (
        0,
        {
            "records": 1,
            "at_evermuse": {"has": 0, "may_have": 0, "refused": 0, "never_sent": 1},
            "dry_run": False,
            "report": str(report),
            "action": OutboxAction.objects.using(alias).get().pk,
        },
    )


@pytest.mark.parametrize(
    ("arguments", "erased"),
    [
        ("--vendor-id msg-2", [1]),
        ("--text 'hello 3'", [2]),
        ("--state delivered", [0]),
        ("--workspace default --type MESSAGE --product prod-abc --state pending", [1, 2]),
        ("--enqueued-from 2020-01-01 --participant u-1", [0, 1]),
        ("--participant u-1 --full-scan", [0, 1]),
    ],
)
def test_conditions(alias, rows, report, arguments, erased):
    status, _ = run(alias, *shlex.split(arguments), "--report", str(report), "--no-input")
    assert status == 0
    assert left(alias) == [row.pk for number, row in enumerate(rows) if number not in erased]


def test_an_identity_is_erased_with_its_versions(alias, rows, report):
    newer = outbox.enqueue(record(1, data={"version": 2}), using=alias)
    status, _ = run(alias, "--identity", str(newer.identity), "--report", str(report), "--no-input")
    assert (status, left(alias)) == (0, [rows[1].pk, rows[2].pk])


@pytest.mark.parametrize(("answer", "status", "count"), [("yes", 0, 1), ("y", 1, 3)])
def test_it_asks_before(alias, rows, report, monkeypatch, answer, status, count):
    questions = []
    monkeypatch.setattr("builtins.input", lambda question: questions.append(question) or answer)
    assert run(alias, "--participant", ADDRESS, "--report", str(report))[0] == status
    assert len(left(alias)) == count
    assert "Erase 2 records in" in questions[0]
    assert report.exists() == (status == 0)


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        ([], 2, "Say what to erase"),
        (["--participant", "x"], 2, "--report is missing"),
        (["--participant", "nobody", "--dry-run"], 0, "No record meets the conditions"),
    ],
)
def test_exit_statuses(alias, rows, arguments, status, text):
    result = run(alias, *arguments)
    assert (result[0], text in result[1]) == (status, True)
    assert len(left(alias)) == 3


def test_a_report_is_not_overwritten(alias, rows, report):
    report.write_text("precious")
    assert run(alias, "--participant", ADDRESS, "--report", str(report), "--no-input")[0] == 2
    assert report.read_text() == "precious"
    assert len(left(alias)) == 3


@pytest.mark.commits
def test_after_an_error_the_rest_is_erased_by_a_new_start(alias, tmp_path, monkeypatch):
    monkeypatch.setattr(outbox_erase, "RECORDS_PER_STEP", 2)
    enqueue(alias, *range(5), _participants=[PERSON])
    erase, calls = outbox_erase.erase_records, []

    def fails(*given, **options):
        calls.append(1)
        if len(calls) == 2:
            raise DatabaseError("gone")
        return erase(*given, **options)

    monkeypatch.setattr(outbox_erase, "erase_records", fails)
    with pytest.raises(DatabaseError):
        run(alias, "--participant", ADDRESS, "--report", str(tmp_path / "1"), "--no-input")
    assert len(left(alias)) == 3
    assert run(alias, "--participant", ADDRESS, "--report", str(tmp_path / "2"), "--no-input")[0] == 0
    assert left(alias) == []
    assert sum(OutboxAction.objects.using(alias).values_list("records", flat=True)) == 5


def test_texts_are_forgotten_even_if_no_record_is_left(alias, report):
    OutboxAction.objects.using(alias).create(
        at="2026-01-01T00:00:00Z", by="x", kind="pause", reason=f"because of {ADDRESS}"
    )
    assert run(alias, "--participant", ADDRESS, "--report", str(report), "--no-input")[0] == 0
    assert ADDRESS not in OutboxAction.objects.using(alias).get().reason
    assert not report.exists()
