"""The run of an import: made with its first records, joined after an interruption, and closed at the end."""

from __future__ import annotations

import json

import pytest
from django.core.management import CommandError, call_command

from evermuse_outbox import outbox
from evermuse_outbox.backfill import Plan, begin
from evermuse_outbox.backfill import run as run_backfill
from evermuse_outbox.model_records import declaration_of
from evermuse_outbox.models import OutboxLabel, OutboxRecord, OutboxRun
from evermuse_outbox.operations.importing import lines
from evermuse_outbox.runs import RunPlan, default_run_name
from example_project.support.models import Email
from tests.conftest import FreeThrottle
from tests.mails_model import declared_as, insert_mails
from tests.records import record


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "records.ndjson"
    path.write_text("".join(json.dumps(record(number)) + "\n" for number in range(3)))
    return path


@pytest.fixture
def _mails(monkeypatch):
    monkeypatch.setattr("evermuse_outbox.delivery.context.context.open_throttle", lambda *_: FreeThrottle())
    monkeypatch.setattr("evermuse_outbox.backfill.pace.Pace.free_requests", lambda self: 1_000)
    with declared_as():
        yield


def runs(alias):
    return list(OutboxRun.objects.using(alias).order_by("pk"))


@pytest.mark.commits
def test_an_import_makes_a_run_and_closes_it(alias, file, capsys):
    call_command("outbox_import", str(file), database=alias)
    (row,) = runs(alias)
    assert (row.name, row.closed_at is None) == (f"import of {file}", False)
    assert f"manage.py outbox_run {row.pk} " in capsys.readouterr().out
    assert outbox.find_run(row.pk, using=alias).counts()["pending"] == 3
    call_command("outbox_import", str(file), database=alias)
    assert len(runs(alias)) == 1  # nothing was imported, so nothing was started


@pytest.mark.commits
def test_an_import_has_labels_and_joins_a_run_that_stays_open(alias, file):
    options = {"database": alias, "run": "nightly", "label": ["customer=acme", "source=a=b"]}
    call_command("outbox_import", str(file), **options, keep_run_open=True)
    outbox.enqueue(record(9), using=alias, run="nightly")
    (row,) = runs(alias)
    assert (row.closed_at, row.labels) == (None, {"customer": "acme", "source": "a=b"})
    assert set(OutboxLabel.objects.using(alias).values_list("name", "value")) == set(row.labels.items())
    assert outbox.find_run("nightly", using=alias).counts()["pending"] == 4


@pytest.mark.commits
def test_an_import_that_was_interrupted_goes_on_with_its_run(alias, file, monkeypatch):
    monkeypatch.setattr(lines, "CHUNK_LINES", 2)
    file.write_text(file.read_text() + "no record\n")
    with pytest.raises(CommandError):
        call_command("outbox_import", str(file), database=alias, max_errors=0)
    (row,) = runs(alias)
    assert row.closed_at is None
    with file.open("a") as rest:
        rest.write(json.dumps(record(7)) + "\n")
    with pytest.raises(CommandError):
        call_command("outbox_import", str(file), database=alias, max_errors=-1)
    (row,) = runs(alias)
    assert row.closed_at is not None
    assert (
        outbox.find_run(row.pk, using=alias).counts()["pending"]
        == OutboxRecord.rows.using(alias).count()
        == 4
    )


@pytest.mark.parametrize("label", ["customer", "=x", "customer="])
@pytest.mark.django_db
def test_a_label_that_is_not_allowed_is_an_error_of_usage(file, label):
    with pytest.raises(CommandError) as caught:
        call_command("outbox_import", str(file), label=[label])
    assert caught.value.returncode == 2
    assert not OutboxRecord.rows.exists()


def test_a_long_name_keeps_its_end():
    assert default_run_name("x" * 300 + "end") == "…" + "x" * 196 + "end"
    assert default_run_name(" a\nb ") == "a b"


@pytest.mark.django_db
@pytest.mark.usefixtures("_mails")
def test_a_backfill_makes_a_run_and_goes_on_with_it():
    insert_mails("default", 3)
    call_command("outbox_backfill", "support.Email", run="history", label=["source=mail"])
    (row,) = runs("default")
    assert (row.name, row.labels, row.closed_at is None) == ("history", {"source": "mail"}, False)
    assert outbox.find_run("history", using="default").counts()["pending"] == 3


@pytest.mark.django_db
@pytest.mark.usefixtures("_mails")
def test_a_backfill_that_was_interrupted_keeps_its_run():
    insert_mails("default", 4)
    plan = Plan(declaration_of(Email), "default", batch=2, run=RunPlan("history"))
    job = begin(plan)
    steps = run_backfill(plan, job)
    while next(steps)[0].enqueued < 2:
        pass
    steps.close()
    again = Plan(declaration_of(Email), "default", batch=2)
    for _ in run_backfill(again, begin(again)):
        pass
    (row,) = runs("default")
    assert (row.name, row.closed_at is None) == ("history", False)
    assert outbox.find_run("history", using="default").counts()["pending"] == 4
