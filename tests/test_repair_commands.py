"""The commands that repair: preview, question, result, exit status, interruption and continuation."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from evermuse_outbox import jobs, outbox
from evermuse_outbox.management import REFUSED, USAGE
from evermuse_outbox.models import OperationState, OutboxAction, OutboxGroup, OutboxOperation, OutboxWorkspace
from tests.delivery.helpers import state_of
from tests.records import record
from tests.rows import batch_in, record_in


def run(name, alias, *arguments):
    out = StringIO()
    try:
        call_command(name, *map(str, arguments), "--database", alias, stdout=out)
    except SystemExit as end:
        return out.getvalue(), end.code
    return out.getvalue(), 0


def test_a_retry_shows_its_preview_and_what_it_has_done(alias, monkeypatch):
    rows = [record_in(alias, "rejected") for _ in range(3)]
    monkeypatch.setattr("builtins.input", lambda question: "yes")
    text, status = run("outbox_retry", alias, "--product", "prod-abc", "--reason", "corrected")
    assert "3 selected in" in text
    assert "about 1 requests (0.1 s of the rate limit)" in text
    assert "retried 3 of 3: rejected records, product id prod-abc" in text
    assert status == 0
    assert {state_of(row) for row in rows} == {"pending"}
    assert OutboxAction.objects.using(alias).get().reason == "corrected"


def test_refused_records_are_named_and_give_another_exit_status(alias):
    rejected, pending = record_in(alias, "rejected"), record_in(alias, "pending")
    newer = outbox.enqueue(record("rejected-0"), using=alias)
    text, status = run("outbox_retry", alias, rejected.pk, f"#{pending.pk}", "--no-input")
    assert status == REFUSED
    assert (
        f"#{rejected.pk} refused: It has a newer version, which it would overwrite at Evermuse: #{newer.pk}"
        in text
    )
    assert state_of(rejected) == "rejected"


def test_a_dry_run_changes_nothing_and_has_the_preview_as_json(alias):
    row = record_in(alias, "rejected")
    text, status = run("outbox_retry", alias, "--all", "--dry-run", "--json")
    (result,) = json.loads(text)["jobs"]
    assert (result["total"], result["state"], result["changed"], result["requests"]) == (1, "cancelled", 0, 1)
    assert (state_of(row), status) == ("rejected", 0)


def test_json_reports_the_result(alias):
    record_in(alias, "rejected")
    text, _ = run("outbox_retry", alias, "--all", "--no-input", "--json")
    (result,) = json.loads(text)["jobs"]
    assert (result["state"], result["changed"], result["refused"], result["not_changed"]) == (
        "finished",
        1,
        0,
        [],
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "This selects all rejected records. Add a condition, or --all"),
        (("--all", "17"), "contradict each other"),
        (("--json", "--all"), "--json needs --no-input or --dry-run"),
        (("--older-than", "soon"), "'soon' is no age and no time"),
        (("--continue", "99"), "No job 99 of this kind"),
    ],
)
def test_wrong_options(alias, arguments, message):
    with pytest.raises(CommandError, match=message) as raised:
        run("outbox_retry", alias, *arguments)
    assert raised.value.returncode == USAGE


def test_a_question_answered_with_no_cancels_the_job(alias, monkeypatch):
    row = record_in(alias, "rejected")
    monkeypatch.setattr("builtins.input", lambda question: "no")
    with pytest.raises(CommandError, match="Nothing was changed"):
        run("outbox_retry", alias, "--all")
    assert OutboxOperation.objects.using(alias).get().state == OperationState.CANCELLED
    assert state_of(row) == "rejected"


def test_if_nothing_is_selected_the_output_says_why(alias):
    row = record_in(alias, "delivered")
    text, status = run("outbox_retry", alias, "--workspace", "emae", row.pk, row.pk + 1)
    assert status == 0
    assert text.endswith(
        "  No workspace 'emae' in the settings; known: default.\n"
        f"  Record #{row.pk} is delivered.\n"
        f"  There is no record #{row.pk + 1}.\n"
    )


def test_without_a_terminal_the_error_names_the_option(alias, monkeypatch):
    row = record_in(alias, "rejected")
    monkeypatch.setattr("sys.stdin", StringIO())
    with pytest.raises(CommandError, match="use --no-input") as raised:
        run("outbox_retry", alias, "--all")
    assert raised.value.returncode == USAGE
    assert OutboxOperation.objects.using(alias).get().state == OperationState.CANCELLED
    assert state_of(row) == "rejected"


def test_ctrl_c_pauses_the_job_and_continue_goes_on(alias, monkeypatch):
    rows = [record_in(alias, "rejected") for _ in range(4)]
    monkeypatch.setattr(type(jobs.get_kind("retry")), "chunk", 2)
    run_chunk, calls = jobs.run_chunk, []

    def interrupt(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run_chunk(*args)

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "run_chunk", interrupt)
        with pytest.raises(
            CommandError, match=r"is paused after 2 of 4. To go on: manage.py outbox_retry --continue"
        ):
            run("outbox_retry", alias, "--all", "--no-input")
    job = OutboxOperation.objects.using(alias).get()
    assert job.state == OperationState.PAUSED
    assert "retried 4 of 4: rejected records" in run("outbox_retry", alias, "--continue", job.pk)[0]
    assert {state_of(row) for row in rows} == {"pending"}


def test_pause_and_resume(alias):
    text, _ = run("outbox_pause", alias, "--workspace", "default", "--reason", "audit")
    assert text == f"Held in {alias}: workspace default.\n"
    assert OutboxWorkspace.objects.using(alias).get().state == "held"
    with pytest.raises(CommandError, match="Not everything was changed") as raised:
        run("outbox_pause", alias, "--workspace", "default")
    assert raised.value.returncode == REFUSED
    run("outbox_pause", alias, "--workspace", "default", "--group", "message", "prod-abc")
    assert "Held by" in run("outbox_explain", alias, "--workspace", "default")[0]
    text, _ = run("outbox_explain", alias, "--workspace", "default", "--group", "message", "prod-abc")
    assert "group message · prod-abc" in text
    assert "Held by" in text
    text, _ = run("outbox_resume", alias, "--workspace", "default")
    assert "Workspace default is active again. It was held: audit" in text
    assert not OutboxGroup.objects.using(alias).exists()
    with pytest.raises(CommandError, match="No workspace 'gone'"):
        run("outbox_pause", alias, "--workspace", "gone")


def test_explain(alias):
    row, batch = record_in(alias, "pending"), batch_in(alias, "sealed")
    text, _ = run("outbox_explain", alias, f"#{row.pk}", "--batch", batch.pk)
    assert f"message #{row.pk} in {alias} is pending." in text
    assert f"batch #{batch.pk} in {alias} is sealed." in text
    rows = json.loads(run("outbox_explain", alias, row.pk, "--json")[0])["rows"]
    assert [(each["row"], each["state"]) for each in rows] == [(f"message #{row.pk}", "pending")]
    for arguments, message in (
        ((999999,), "There is no such row"),
        ((), "Name a record"),
        (("--group", "a", "b"), "needs --workspace"),
    ):
        with pytest.raises(CommandError, match=message):
            run("outbox_explain", alias, *arguments)


def test_a_fix_shows_a_diff(alias, outbox_settings, monkeypatch):
    outbox_settings(FIXES={"nature": "tests.fixes.nature"})
    row = record_in(alias, "rejected")
    changed = row.payload.replace('"_nature":"evidence"', '"_nature":"nonsense"')
    type(row).rows.using(alias).filter(pk=row.pk).update(payload=changed)
    text, status = run("outbox_fix", alias, "nature", "--all", "--dry-run")
    assert '-  "_nature": "nonsense"' in text
    assert status == 0
    text, status = run("outbox_fix", alias, "nature", "--all", "--no-input")
    assert "fixed 1 of 1: rejected records" in text
    assert state_of(row) == "superseded"
