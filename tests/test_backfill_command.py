"""``manage.py outbox_backfill``: what it prints, and how it ends."""

import json

import pytest
from django.core.management import CommandError, call_command

from evermuse_outbox.management.commands import outbox_backfill
from evermuse_outbox.models import OperationState, OutboxOperation, OutboxRecord, OutboxRun
from tests.conftest import FreeThrottle
from tests.mails_model import MailRecord, declared_as, insert_mails
from tests.model_records.test_saving import subjects

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _mails(monkeypatch):
    monkeypatch.setattr("evermuse_outbox.delivery.context.context.open_throttle", lambda *_: FreeThrottle())
    monkeypatch.setattr("evermuse_outbox.backfill.pace.Pace.free_requests", lambda self: 1_000)
    with declared_as():
        yield


def run(*arguments, **options):
    return call_command("outbox_backfill", "support.Email", *arguments, **options)


def test_it_enqueues_and_says_so(capsys):
    insert_mails("default", 3)
    run()
    job, run_id = OutboxOperation.objects.get().pk, OutboxRun.objects.get().pk
    assert capsys.readouterr().out == (
        f"Enqueued 3 records of 3 rows: all support.Email, job #{job}. Run #{run_id}, backfill of all support.Email: "
        f"manage.py outbox_run {run_id} shows how far it is.\n"
    )
    assert len(subjects("default")) == 3


def test_a_dry_run_changes_nothing(capsys):
    insert_mails("default", 3)
    run("--dry-run", "--sample", "2")
    out = capsys.readouterr().out
    assert out == "2 of 2 rows would be enqueued, and 0 skipped. Nothing was changed.\n"
    assert not OutboxRecord.objects.exists()


def test_bad_rows_are_reported_by_kind_and_written_to_a_file(capsys, monkeypatch, tmp_path):
    insert_mails("default", 2)
    monkeypatch.setattr(MailRecord, "project_id", "")
    file = tmp_path / "bad.ndjson"
    with pytest.raises(CommandError) as error:
        run("--bad-rows", str(file))
    assert error.value.returncode == outbox_backfill.HAS_BAD_ROWS
    assert "2 rows are bad" in str(error.value)
    out, err = capsys.readouterr()
    assert out.startswith("2 rows: _project_id: ")
    assert err.startswith("row ")
    assert [json.loads(line)["error"].split(":")[0] for line in file.read_text().splitlines()] == [
        "_project_id"
    ] * 2


def test_the_first_bad_row_can_stop_it(monkeypatch):
    insert_mails("default", 4)
    monkeypatch.setattr(MailRecord, "project_id", "")
    with pytest.raises(CommandError, match="Start the same command again") as error:
        run("--max-errors", "0", "--batch", "1")
    assert error.value.returncode == outbox_backfill.TOO_MANY_BAD_ROWS
    assert OutboxOperation.objects.get().state == OperationState.PAUSED


def test_ctrl_c_pauses_it_and_the_same_command_continues(capsys, monkeypatch):
    insert_mails("default", 4)
    original = outbox_backfill.run

    def interrupted(*arguments):
        steps = original(*arguments)
        yield next(steps)
        yield next(steps)
        raise KeyboardInterrupt

    with (
        monkeypatch.context() as patch,
        pytest.raises(CommandError, match="2 of 4 rows are handled") as error,
    ):
        patch.setattr(outbox_backfill, "run", interrupted)
        run("--batch", "2")
    assert error.value.returncode == outbox_backfill.INTERRUPTED
    run("--status")
    shown = capsys.readouterr().out
    assert "is paused: 2 of 4 rows" in shown
    assert "A new record waits about" in shown
    run("--batch", "2")
    assert "2 rows were handled by earlier starts" in capsys.readouterr().out
    assert len(subjects("default")) == 4


def test_another_process_can_be_paused(monkeypatch):
    insert_mails("default", 2)
    job = outbox_backfill.begin(outbox_backfill._plan_of(defaults()))
    run("--pause")
    job.refresh_from_db()
    assert job.state == OperationState.PAUSED


def defaults():
    parser = outbox_backfill.Command().create_parser("manage.py", "outbox_backfill")
    return vars(parser.parse_args(["support.Email"]))


def test_restart_begins_again():
    insert_mails("default", 2)
    outbox_backfill.begin(outbox_backfill._plan_of(defaults()))
    run("--restart", "--json")
    assert list(OutboxOperation.objects.order_by("pk").values_list("state", flat=True)) == [
        "cancelled",
        "finished",
    ]


def test_filters(capsys):
    insert_mails("default", 4)
    run("--where", "subject=Subject 2", "--since", "2026-03-01T00:00:01Z")
    assert subjects("default") == ["Subject 2"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("support.Nothing",), "No model 'support.Nothing'"),
        (("auth.User",), "auth.User has no declaration of its records"),
        (("support.Email", "--where", "x"), "LOOKUP=VALUE"),
        (("support.Email", "--where", "nothing=1"), "Cannot resolve keyword 'nothing'"),
        (("support.Email", "--since", "soon"), "invalid format"),
        (("support.Email", "--batch", "0"), "--batch must be at least 1"),
        (("support.Email", "--status"), "No backfill of all support.Email in default is unfinished"),
    ],
)
def test_mistakes_are_named(arguments, words):
    with pytest.raises(CommandError, match=words):
        call_command("outbox_backfill", *arguments)
