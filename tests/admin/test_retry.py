"""Retrying: the preview, what happens, what is refused, and how much at once."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.messages import get_messages
from django.test import Client

from evermuse_outbox.admin.actions import retry as retrying
from evermuse_outbox.models import BatchState, OutboxRecord, OutboxWorkspace, WorkspaceState

from . import rows
from .conftest import url

pytestmark = pytest.mark.django_db


def choose(client: Client, model: str, pks: list[int], across: bool = False, query: str = "") -> object:
    action = {"record": "retry_chosen", "batch": "retry_rejected"}[model]
    data = {"action": action, "_selected_action": pks, "select_across": int(across), "index": 0}
    return client.post(url(model, "changelist") + query, data)


def confirm(client: Client, page: object) -> object:
    sent = {"pks": page.context["pks"], "back": page.context["back"]}
    return client.post(page.context["retry_url"], sent)


def told(response: object) -> str:
    return " ".join(str(message) for message in get_messages(response.wsgi_request))


def states(*records: OutboxRecord) -> list[str]:
    return [OutboxRecord.objects.get(pk=record.pk).state for record in records]


def test_preview_then_retry(changer: Client) -> None:
    good, overtaken, pending = rows.rejected(), rows.rejected(), rows.record()
    newer = rows.record(rows.batch(BatchState.COMPLETE), identity=overtaken.identity)
    page = choose(changer, "record", [good.pk, overtaken.pk, pending.pk], query="?type=message")
    assert page.status_code == 200
    tally = page.context["tally"]
    assert (tally.reopened, tally.refused, tally.others) == ([good.pk], {overtaken.pk: newer.pk}, 1)
    assert "Retry 1 record" in page.content.decode()
    assert states(good, overtaken) == ["rejected", "rejected"]

    done = confirm(changer, page)
    assert done.status_code == 302
    assert done["Location"] == url("record", "changelist") + "?type=message"
    assert states(good, overtaken, pending, newer) == ["pending", "rejected", "pending", "delivered"]
    assert told(done) == (
        "1 record is pending again; the workers send it. "
        f"1 was refused, as a newer version exists (#{overtaken.pk} → #{newer.pk}). "
        "1 was not rejected and stays as it is."
    )
    assert LogEntry.objects.get().object_id == str(good.pk)


def test_the_preview_offers_nothing_where_nothing_can_be_done(changer: Client) -> None:
    page = choose(changer, "record", [rows.record().pk])
    assert 'type="submit" class="default"' not in page.content.decode()


def test_the_button_on_the_record(changer: Client) -> None:
    row = rows.rejected()
    address = url("record", "change", row.pk)
    assert address in changer.get(address).content.decode()
    done = changer.post(url("record", "retry"), {"pks": row.pk, "back": address})
    assert done["Location"] == address
    assert states(row) == ["pending"]
    again = changer.post(url("record", "retry"), {"pks": row.pk, "back": "https://elsewhere.example/"})
    assert again["Location"] == url("record", "changelist")
    assert told(again).endswith("Nothing was put back into the queue. 1 was not rejected and stays as it is.")


@pytest.mark.parametrize("pks", ["", "x,-1,,9" + "9" * 5_000, "1; DROP TABLE"])
def test_nonsense_in_the_form_changes_nothing(changer: Client, pks: str) -> None:
    row = rows.rejected()
    assert changer.post(url("record", "retry"), {"pks": pks}).status_code == 302
    assert states(row) == ["rejected"]


def test_more_than_a_chunk_at_once(changer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "CHUNK", 3)
    found = [rows.rejected() for _ in range(8)]
    page = choose(changer, "record", [found[0].pk], across=True, query="?state=rejected")
    assert len(page.context["tally"].reopened) == 8
    confirm(changer, page)
    assert set(states(*found)) == {"pending"}
    assert LogEntry.objects.count() == 8


def test_the_confirmation_keeps_to_what_was_previewed(changer: Client) -> None:
    first = rows.rejected()
    page = choose(changer, "record", [first.pk], across=True, query="?state=rejected")
    later = rows.rejected()
    confirm(changer, page)
    assert states(first, later) == ["pending", "rejected"]


def test_all_matching_works_beyond_the_number_of_fields_in_a_form(changer: Client) -> None:
    home = rows.batch(BatchState.FAILED)
    OutboxRecord.rows.bulk_create(
        OutboxRecord(
            workspace="default", type="message", product_id="prod", identity=f"{n:032x}", payload="{}",
            contract="reference", size=2, enqueued_at=home.sealed_at, batch=home,
            closed_as="rejected",
        )
        for n in range(1_200)
    )  # fmt: skip
    page = choose(changer, "record", [OutboxRecord.rows.first().pk], across=True, query="?state=rejected")
    done = confirm(changer, page)
    assert told(done) == "1,200 records are pending again; the workers send them."
    assert OutboxRecord.rows.pending().count() == 1_200


@pytest.mark.parametrize("model", ["record", "batch"])
def test_too_many_are_refused_in_clear_words(
    changer: Client, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setattr(retrying, "MOST", 2)
    found = [rows.rejected() for _ in range(3)]
    page = choose(changer, model, [getattr(found[0], "pk" if model == "record" else "batch_id")], across=True)
    assert page.status_code == 302
    assert "More than 2 are chosen; nothing was changed. Narrow the filter" in told(page)
    assert set(states(*found)) == {"rejected"}


def test_a_batch_with_too_many_rejected_records(changer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "MOST", 2)
    home = rows.batch(BatchState.FAILED)
    for _ in range(3):
        rows.record(home, closed_as="rejected")
    assert "More than 2" in told(choose(changer, "batch", [home.pk]))


def test_the_rejected_records_of_batches(changer: Client) -> None:
    failed, mixed = rows.batch(BatchState.FAILED), rows.batch(BatchState.COMPLETE)
    lost = rows.record(failed, closed_as="rejected")
    refused, delivered = rows.record(mixed, closed_as="rejected"), rows.record(mixed)
    untouched = rows.rejected()
    page = choose(changer, "batch", [failed.pk, mixed.pk])
    assert page.context["chosen"] == 2
    done = confirm(changer, page)
    assert done["Location"] == url("batch", "changelist")
    assert states(lost, refused, delivered, untouched) == ["pending", "pending", "delivered", "rejected"]


def test_resuming_a_workspace(changer: Client) -> None:
    OutboxWorkspace.objects.hold("default", WorkspaceState.PAUSED, rows.timezone.now(), "HTTP 401")
    done = changer.post(url("workspace", "resume", "default"))
    assert done["Location"] == url("workspace", "change", "default")
    assert OutboxWorkspace.objects.get().state == WorkspaceState.ACTIVE
    assert told(done) == "default is open again; the workers go on."
    assert "open already" in told(changer.post(url("workspace", "resume", "default")))
    assert changer.post(url("workspace", "resume", "nowhere")).status_code == 404


def test_resuming_from_the_list(changer: Client) -> None:
    for name in ("north", "south"):
        OutboxWorkspace.objects.hold(name, WorkspaceState.BACKING_OFF, rows.timezone.now(), "HTTP 503")
    data = {"action": "resume_chosen", "_selected_action": ["north", "south"], "index": 0}
    changer.post(url("workspace", "changelist"), data)
    assert set(OutboxWorkspace.objects.values_list("state", flat=True)) == {WorkspaceState.ACTIVE}
