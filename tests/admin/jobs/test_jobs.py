"""Jobs in the admin: selection, preview, confirmation, progress, and the limits of the person who starts them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from evermuse_outbox import jobs
from evermuse_outbox.admin import OutboxRecordAdmin
from evermuse_outbox.models import BatchState, OutboxAction, OutboxOperation, OutboxRecord
from tests.admin import rows
from tests.admin.client import url
from tests.keys import KEY, stored_line

pytestmark = pytest.mark.django_db


def select(
    client: Client, model: str, pks: list[int], kind: str = "retry", across: bool = False, query: str = ""
) -> Any:
    data = {"action": f"start_{kind}", "_selected_action": pks, "select_across": int(across), "index": 0}
    return client.post(url(model, "changelist") + query, data)


def last_job() -> OutboxOperation:
    return OutboxOperation.objects.latest("pk")


def press(client: Client, action: str, **data: str) -> Any:
    return client.post(url("operation", "job", last_job().pk), {"action": action, **data})


def execute() -> OutboxOperation:
    jobs.run_operations("default", seconds=60)
    return last_job()


def states(*records: OutboxRecord) -> list[str]:
    return [OutboxRecord.objects.get(pk=record.pk).state for record in records]


def test_preview_then_confirm_then_the_workers_retry(changer: Client) -> None:
    good, overtaken, pending = rows.rejected(), rows.rejected(), rows.record()
    rows.record(rows.batch(BatchState.COMPLETE), identity=overtaken.identity)
    page = select(changer, "record", [good.pk, overtaken.pk, pending.pk], query="?type=message")
    assert page["Location"] == url("operation", "change", last_job().pk)
    text = changer.get(page["Location"]).content.decode()
    assert "Retry rejected records: 1 row" in text
    assert f"#{overtaken.pk}" in text
    assert states(good, overtaken) == ["rejected", "rejected"]

    press(changer, "confirm", reason="the project id is corrected")
    assert states(good) == ["rejected"]  # nothing runs inside the request
    job = execute()
    assert (job.state, job.changed, job.refused) == ("finished", 1, 2)
    assert states(good, overtaken, pending) == ["pending", "rejected", "pending"]
    action = OutboxAction.objects.get()
    assert (action.by, action.reason, action.records) == (job.by, "the project id is corrected", 1)
    entry = LogEntry.objects.get()  # one for the job, whatever its size
    assert entry.object_id == str(job.pk)
    text = changer.get(url("operation", "change", job.pk)).content.decode()
    assert f"#{overtaken.pk}" in text
    assert "Finished." in text


def test_everything_that_a_filter_matches(changer: Client) -> None:
    rejected = [rows.rejected(product_id="a") for _ in range(5)]
    other = rows.rejected(product_id="b", type="call")
    select(changer, "record", [rejected[0].pk], across=True, query="?state=rejected&type=message")
    job = last_job()
    assert (job.total, job.state) == (5, "ready")
    assert job.selection == "all records with state = rejected, type = message"
    later = rows.rejected(product_id="a")
    press(changer, "confirm")
    execute()
    assert set(states(*rejected)) == {"pending"}
    assert states(other, later) == ["rejected", "rejected"]  # the members were fixed before


def test_a_large_selection_is_collected_in_several_requests(
    changer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    rejected = [rows.rejected() for _ in range(7)]
    collect, calls = jobs.collect, []

    def hurried(job: OutboxOperation, selected: Any) -> bool:
        calls.append(job.total)
        return collect(job, selected, limit_seconds=0)

    monkeypatch.setattr(jobs, "collect", hurried)
    monkeypatch.setattr(jobs.get_kind("retry"), "page", 3, raising=False)
    select(changer, "record", [rejected[0].pk], across=True, query="?state=rejected")
    while last_job().state == "collecting":
        assert (
            "Continue to collect" in changer.get(url("operation", "change", last_job().pk)).content.decode()
        )
        changer.post(url("operation", "collect", last_job().pk))
    assert last_job().total == 7
    assert len(calls) > 2


def test_the_rejected_records_of_batches(changer: Client) -> None:
    failed, mixed = rows.batch(BatchState.FAILED), rows.batch(BatchState.COMPLETE)
    lost = rows.record(failed, closed_as="rejected")
    refused, delivered = rows.record(mixed, closed_as="rejected"), rows.record(mixed)
    untouched = rows.rejected()
    select(changer, "batch", [failed.pk, mixed.pk])
    assert last_job().total == 2
    press(changer, "confirm")
    execute()
    assert states(lost, refused, delivered, untouched) == ["pending", "pending", "delivered", "rejected"]


def test_the_button_on_the_page_of_a_record(changer: Client) -> None:
    row = rows.rejected()
    start = url("record", "start", row.pk, "retry")
    assert f'action="{start}"' in changer.get(url("record", "change", row.pk)).content.decode()
    assert changer.get(start).status_code == 405
    changer.post(start)
    press(changer, "confirm")
    execute()
    assert states(row) == ["pending"]


def test_discarding_needs_a_reason_and_a_confirmation(changer: Client) -> None:
    row = rows.record()
    changer.post(url("record", "start", row.pk, "discard"))
    for data in ({}, {"reason": "wrong import"}, {"confirmed": "1"}):
        press(changer, "confirm", **data)
        assert last_job().state == "ready"
    press(changer, "confirm", reason="wrong import", confirmed="1")
    execute()
    assert states(row) == ["discarded"]


def test_pause_continue_and_cancel_half_way(changer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.get_kind("retry"), "chunk", 2, raising=False)
    rejected = [rows.rejected() for _ in range(6)]
    select(changer, "record", [row.pk for row in rejected])
    press(changer, "confirm")
    jobs.run_chunk("default", last_job().pk)
    press(changer, "pause")
    assert execute().changed == 2
    press(changer, "proceed")
    jobs.run_chunk("default", last_job().pk)
    press(changer, "cancel")
    assert (execute().state, last_job().changed) == ("cancelled", 4)
    assert states(*rejected) == ["pending"] * 4 + ["rejected"] * 2
    text = changer.get(url("operation", "change", last_job().pk)).content.decode()
    assert "Cancelled. What it had changed stays so" in text
    assert press(changer, "cancel").status_code == 302  # with a message, and without an effect


def shorten(envelope: dict[str, Any]) -> dict[str, Any] | None:
    """A fix of the host of these tests."""
    return (
        envelope | {"_project_id": "proj", "data": {"text": "short"}}
        if envelope["data"]["text"] != "ok"
        else None
    )


def test_a_fix_of_the_host_shows_its_changes_first(
    changer: Client, outbox_settings: Callable[..., None]
) -> None:
    outbox_settings(FIXES={"shorten": f"{__name__}.shorten"})
    broken, fine = (
        rows.rejected(payload=rows.line("F-1", "long")),
        rows.rejected(payload=rows.line("F-2", "ok")),
    )
    data = {"action": "fix_shorten", "_selected_action": [broken.pk, fine.pk], "index": 0}
    page = changer.post(url("record", "changelist"), data)["Location"]
    text = changer.get(page).content.decode()
    assert "Fix rejected records: shorten" in text
    assert "&quot;text&quot;: &quot;short&quot;" in text
    press(changer, "confirm", reason="too long")
    assert execute().changed == 1
    assert states(broken, fine) == ["superseded", "rejected"]
    assert OutboxRecord.rows.latest("pk").envelope()["data"] == {"text": "short"}


def test_a_fix_is_shown_only_with_the_permission_for_payloads(
    person: Callable[..., Client], outbox_settings: Callable[..., None]
) -> None:
    outbox_settings(FIXES={"shorten": f"{__name__}.shorten"})
    client = person("view_outboxrecord", "retry_outboxrecord")
    row = rows.rejected(payload=rows.line("F-1", "long"))
    data = {"action": "fix_shorten", "_selected_action": [row.pk], "index": 0}
    page = client.post(url("record", "changelist"), data)["Location"]
    assert "&quot;text&quot;" not in client.get(page).content.decode()


def test_edit_and_retry(changer: Client) -> None:
    row = rows.rejected()
    page = url("record", "edit", row.pk)
    assert page in changer.get(url("record", "change", row.pk)).content.decode()
    assert "T-" in changer.get(page).content.decode()
    for text, message in (("{", "not valid JSON"), ("{}", "_type"), ("[]", "")):
        answer = changer.post(page, {"envelope": text})
        assert answer.status_code == 422
        assert message in answer.content.decode()
        assert states(row) == ["rejected"]
    envelope = row.envelope() | {"_project_id": "proj", "data": {"text": "corrected"}}
    done = changer.post(page, {"envelope": json.dumps(envelope), "reason": "typing error"})
    newer = OutboxRecord.rows.latest("pk")
    assert done["Location"] == url("record", "change", newer.pk)
    assert (states(row), states(newer)) == (["superseded"], ["pending"])
    assert newer.envelope()["data"] == {"text": "corrected"}
    action = OutboxAction.objects.get()
    assert (action.kind, action.reason) == ("edit", "typing error")
    assert changer.post(page, {"envelope": json.dumps(envelope)}).status_code == 302  # it is over


def test_a_record_whose_line_was_cut_off_can_be_edited(changer: Client) -> None:
    row = rows.rejected()
    OutboxRecord.rows.filter(pk=row.pk).update(payload='{"_type": "mess')
    shown = changer.get(url("record", "edit", row.pk))
    assert shown.context["text"] == '{"_type": "mess'


def test_editing_needs_both_permissions(person: Callable[..., Client]) -> None:
    row = rows.rejected()
    for permissions in (["retry_outboxrecord"], ["view_payload_outboxrecord"]):
        client = person("view_outboxrecord", *permissions)
        assert client.get(url("record", "edit", row.pk)).status_code == 403
        assert "Edit and retry" not in client.get(url("record", "change", row.pk)).content.decode()


# --- permissions and limits ---------------------------------------------------------------------------


def test_each_kind_needs_its_permission(person: Callable[..., Client]) -> None:
    row = rows.rejected()
    client = person("view_outboxrecord", "retry_outboxrecord")
    text = client.get(url("record", "changelist")).content.decode()
    assert "start_retry" in text
    assert "start_discard" not in text
    assert client.post(url("record", "start", row.pk, "discard")).status_code == 403
    select(client, "record", [row.pk], kind="discard")
    assert not OutboxOperation.objects.exists()


def test_the_list_encrypts_payloads_only_with_master_keys(
    person: Callable[..., Client], outbox_settings: Callable[..., None]
) -> None:
    row, client = rows.record(), person("view_outboxrecord", "manage_outboxdatakey")
    page = url("record", "changelist")
    assert "start_encrypt" not in client.get(page).content.decode()
    outbox_settings(ENCRYPTION_KEYS=[KEY])
    assert "start_decrypt" in client.get(page).content.decode()
    select(client, "record", [row.pk], kind="encrypt")
    press(client, "confirm", reason="policy 7")
    assert execute().changed == 1
    assert stored_line(row).startswith("e1:")


def test_only_the_person_who_started_a_job_confirms_it(person: Callable[..., Client]) -> None:
    row = rows.rejected()
    first, second = (person("view_outboxrecord", "view_outboxoperation", "retry_outboxrecord") for _ in "12")
    first.post(url("record", "start", row.pk, "retry"))
    assert press(second, "confirm").status_code == 403
    assert second.post(url("operation", "collect", last_job().pk)).status_code == 403
    assert press(first, "confirm").status_code == 302
    assert press(second, "pause").status_code == 302
    assert last_job().state == "paused"


def test_a_person_without_view_permission_sees_only_their_own_jobs(person: Callable[..., Client]) -> None:
    first, second = (person("view_outboxrecord", "retry_outboxrecord") for _ in "12")
    first.post(url("record", "start", rows.rejected().pk, "retry"))
    page = url("operation", "change", last_job().pk)
    assert first.get(page).status_code == 200
    assert second.get(page).status_code in (302, 403)


def test_a_page_of_one_workspace_changes_no_record_of_another(
    changer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = OutboxRecordAdmin.get_queryset
    monkeypatch.setattr(
        OutboxRecordAdmin,
        "get_queryset",
        lambda page, request: plain(page, request).filter(workspace="default"),
    )
    own, foreign = rows.rejected(), rows.rejected(workspace="other")
    foreign_batch = foreign.batch_id
    assert changer.post(url("record", "start", foreign.pk, "retry")).status_code in (302, 404)
    select(changer, "record", [foreign.pk])
    select(changer, "record", [own.pk, foreign.pk])
    select(changer, "record", [own.pk], across=True)
    select(changer, "batch", [foreign_batch])
    members = {
        pk for job in OutboxOperation.objects.all() for pk in job.members.values_list("target", flat=True)
    }
    assert members == {own.pk}
