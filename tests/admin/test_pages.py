"""Every page answers, with rows in every state, and shows what is asked of it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from evermuse_outbox.models import (
    BatchState,
    GroupState,
    OutboxGroup,
    OutboxRecord,
    OutboxRejection,
    OutboxWorkspace,
    WorkspaceState,
)
from tests.insight.test_status import group

from . import rows
from .conftest import url

pytestmark = pytest.mark.django_db

KEY = "em_sk_test"


def every_record() -> dict[str, OutboxRecord]:
    """One record for each state, and for each state of a batch."""
    found = {f"in {state}": rows.record(rows.batch(state)) for state in BatchState if state != "failed"}
    found["pending"] = rows.record()
    found["failed"] = rows.record(rows.batch(BatchState.FAILED))
    found["rejected"] = rows.rejected()
    newer = rows.record(identity=found["pending"].identity)
    found["superseded"] = rows.record(closed_as="superseded", superseded_by=newer.pk, identity=newer.identity)
    found["discarded"] = rows.record(closed_as="discarded")
    return found


def body(client: Client, address: str, status: int = 200) -> str:
    response = client.get(address)
    assert response.status_code == status, (address, response.status_code, response.get("Location"))
    text = response.content.decode()
    assert KEY not in text
    return text


def test_the_lists_and_every_page_answer(viewer: Client) -> None:
    found = every_record()
    shown = body(viewer, url("record", "changelist"))
    for state in ("pending", "in flight", "delivered", "rejected", "superseded", "discarded"):
        assert f">{state}</span>" in shown
    assert "ticket: T-" in shown
    body(viewer, url("batch", "changelist"))
    for record in found.values():
        assert 'class="evermuse-why"' in body(viewer, url("record", "change", record.pk))
        if record.batch:
            assert 'class="evermuse-why"' in body(viewer, url("batch", "change", record.batch_id))


@pytest.mark.parametrize("hold", WorkspaceState.values)
def test_workspaces_in_every_state(viewer: Client, hold: str) -> None:
    OutboxWorkspace.objects.create(
        name="north/a b", state=hold, blocked_until=timezone.now(), reason="HTTP 503: <busy>", failures=3
    )
    OutboxWorkspace.objects.create(name="default", state=hold)
    assert "&lt;busy&gt;" in body(viewer, url("workspace", "changelist"))
    assert "no longer in the settings" in body(viewer, url("workspace", "change", "north_2Fa b"))
    assert "http://127.0.0.1:1" in body(viewer, url("workspace", "change", "default"))


def test_the_last_hour_is_drawn(viewer: Client) -> None:
    OutboxWorkspace.objects.create(name="default")
    rows.batch(BatchState.COMPLETE, accepted_count=700)
    rows.batch(BatchState.COMPLETE, accepted_count=None, record_count=40, workspace="other")
    rows.batch(BatchState.COMPLETE, finished_at=timezone.now() - timedelta(hours=2), accepted_count=9_000)
    assert "740 records in 2 batches" in body(viewer, url("workspace", "changelist"))
    assert "700 records in 1 batches" in body(viewer, url("workspace", "change", "default"))


def test_an_empty_outbox(viewer: Client) -> None:
    for model in ("record", "batch", "workspace"):
        body(viewer, url(model, "changelist"))


def test_payloads_are_escaped(viewer: Client) -> None:
    evil = "<script>alert(1)</script>"
    told = [{"index": evil, "code": evil, "message": evil}]
    home = rows.batch(BatchState.FAILED, message=evil, errors=told, product_id=evil, remote_status=evil)
    row = rows.record(home, payload=rows.line(evil, evil), type=evil[:32], product_id=evil)
    OutboxRejection.objects.create(
        record=row, batch=home, code=evil, message=evil, rejected_at=timezone.now()
    )
    rows.attempt(home, detail=evil, outcome="refused", status=400)
    for address in (
        url("record", "changelist"),
        url("record", "change", row.pk),
        url("batch", "changelist"),
        url("batch", "change", home.pk),
    ):
        text = body(viewer, address)
        assert evil not in text
        assert "&lt;script&gt;" in text


def test_a_long_payload_is_cut_and_can_be_downloaded(viewer: Client) -> None:
    row = rows.record(payload=rows.line(text="é" * 150_000))
    text = body(viewer, url("record", "change", row.pk))
    assert "Cut here" in text
    assert len(text) < 130_000
    response = viewer.get(url("record", "line", row.pk))
    assert response.content.decode() == row.payload
    assert response["Content-Disposition"] == f'attachment; filename="record-{row.pk}.json"'
    assert viewer.get(url("record", "line", 10**6)).status_code == 404


def test_other_versions_and_rejections_stand_on_the_record(viewer: Client) -> None:
    old = rows.rejected()
    new = rows.record(rows.batch(BatchState.COMPLETE), identity=old.identity)
    text = body(viewer, url("record", "change", old.pk))
    assert "No such product." in text
    assert url("record", "change", new.pk) in text
    assert "(newer)" in text
    assert url("batch", "change", old.batch_id) in text


def test_attempts_stand_on_the_batch(viewer: Client) -> None:
    home = rows.batch(BatchState.ACCEPTED)
    row = rows.record(home)
    for number in range(205):
        rows.attempt(home, status=503, outcome="in_doubt", detail=f"answer {number}.")
    rows.attempt(home, status=None, seconds=None, outcome="unavailable", detail="")
    text = body(viewer, url("batch", "change", home.pk))
    assert "HTTP 503" in text
    assert "no answer" in text
    assert "answer 204." in text
    assert "answer 3." not in text
    assert "these are the newest" in text
    assert "HTTP 503" in body(viewer, url("record", "change", row.pk))


def test_errors_lead_to_their_records(viewer: Client) -> None:
    told = [{"index": 2, "code": "BAD", "message": "no"}, {"index": 99, "code": "ODD", "message": "?"}]
    home = rows.batch(BatchState.COMPLETE, errors=told, record_count=3, total_error_count=30)
    members = [rows.record(home) for _ in range(3)]
    text = body(viewer, url("batch", "change", home.pk))
    link = f'<td>2</td><td><a href="{url("record", "change", members[2].pk)}">#{members[2].pk}</a></td>'
    assert link in text
    assert "<td>99</td><td>-</td>" in text
    assert "Evermuse counts 30 in all" in text


def test_errors_of_a_split_batch_lead_to_those_that_were_rejected(viewer: Client) -> None:
    """Its other records have moved on, so that the order of those left says nothing about positions."""
    home = rows.batch(
        BatchState.SPLIT,
        record_count=5,
        errors=[{"index": 3, "code": "BAD", "message": "no"}, {"index": 0, "code": "X", "message": "y"}],
    )
    rows.batch(parent=home)
    culprit = rows.record(home, closed_as="rejected")
    OutboxRejection.objects.create(
        record=culprit, batch=home, position=3, code="BAD", message="no", rejected_at=timezone.now()
    )
    text = body(viewer, url("batch", "change", home.pk))
    assert f'<td>3</td><td><a href="{url("record", "change", culprit.pk)}">#{culprit.pk}</a></td>' in text
    assert "<td>0</td><td>-</td>" in text
    assert "Went on in" in text


def test_a_batch_shows_some_of_its_records_and_leads_to_all(viewer: Client) -> None:
    home = rows.batch(BatchState.COMPLETE, attachment_total=8, attachment_complete=5, attachment_failed=1)
    for _ in range(52):
        rows.record(home)
    rows.record()
    text = body(viewer, url("batch", "change", home.pk))
    assert "All 52 records" in text
    assert "5 / 8, 1 failed" in text
    assert text.count("delivered</span>") == 50
    every = body(viewer, url("record", "changelist") + f"?batch__id__exact={home.pk}")
    assert "52 records" in every
    assert f"#{home.pk}" in every


def test_a_record_whose_batch_is_gone(viewer: Client) -> None:
    row = rows.record()
    OutboxRecord.rows.filter(pk=row.pk).update(batch=999)
    body(viewer, url("record", "changelist"))
    body(viewer, url("record", "change", row.pk))


@pytest.mark.parametrize("state", GroupState.values)
def test_groups_in_trouble_say_why_and_what_to_do(viewer: Client, state: str) -> None:
    row = group("default", state, reason="All refused: <no such project>")
    rows.record()
    assert "&lt;no such project&gt;" in body(viewer, url("group", "changelist"))
    shown = body(viewer, url("group", "change", row.pk))
    assert "Look at the project id." in shown
    assert ">Resume now<" not in shown


def test_a_group_is_resumed_by_its_button_and_by_the_action(changer: Client) -> None:
    row = group("default")
    answer = changer.post(url("group", "resume", row.pk), follow=True)
    assert "is open again; the workers go on." in answer.content.decode()
    assert not OutboxGroup.objects.exists()

    row = group("default")
    chosen = {"action": "resume_chosen", "_selected_action": row.pk}
    changer.post(url("group", "changelist"), chosen)
    assert not OutboxGroup.objects.exists()
