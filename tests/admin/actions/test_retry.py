"""Retry: the preview, the result, what is refused, and how many records at once."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.messages import get_messages
from django.test import Client

from evermuse_outbox.admin.actions import retry
from evermuse_outbox.models import BatchState, OutboxRecord
from tests.admin import rows
from tests.admin.client import url

pytestmark = pytest.mark.django_db


def select(client: Client, model: str, pks: list[int], across: bool = False, query: str = "") -> object:
    action = {"record": "retry_selected", "batch": "retry_rejected"}[model]
    data = {"action": action, "_selected_action": pks, "select_across": int(across), "index": 0}
    return client.post(url(model, "changelist") + query, data)


def confirm(client: Client, page: object) -> object:
    sent = {"pks": page.context["pks"], "back": page.context["back"]}
    return client.post(page.context["retry_url"], sent)


def messages_of(response: object) -> str:
    return " ".join(str(message) for message in get_messages(response.wsgi_request))


def states(*records: OutboxRecord) -> list[str]:
    return [OutboxRecord.objects.get(pk=record.pk).state for record in records]


def test_preview_then_retry(changer: Client) -> None:
    good, overtaken, pending = rows.rejected(), rows.rejected(), rows.record()
    newer = rows.record(rows.batch(BatchState.COMPLETE), identity=overtaken.identity)
    page = select(changer, "record", [good.pk, overtaken.pk, pending.pk], query="?type=message")
    assert page.status_code == 200
    result = page.context["result"]
    assert (result.reopened, result.refused, result.not_rejected) == ([good.pk], {overtaken.pk: newer.pk}, 1)
    assert "Retry 1 record" in page.content.decode()
    assert states(good, overtaken) == ["rejected", "rejected"]

    done = confirm(changer, page)
    assert done.status_code == 302
    assert done["Location"] == url("record", "changelist") + "?type=message"
    assert states(good, overtaken, pending, newer) == ["pending", "rejected", "pending", "delivered"]
    assert messages_of(done) == (
        "1 record is pending again; the workers send it. "
        f"1 was not retried because a newer version exists (#{overtaken.pk} → #{newer.pk}). "
        "1 is not rejected and stays unchanged."
    )
    assert LogEntry.objects.get().object_id == str(good.pk)


def test_without_rejected_records_the_preview_has_no_button(changer: Client) -> None:
    page = select(changer, "record", [rows.record().pk])
    assert 'type="submit" class="default"' not in page.content.decode()


def test_the_button_on_the_page_of_a_record(changer: Client) -> None:
    row = rows.rejected()
    address = url("record", "change", row.pk)
    assert address in changer.get(address).content.decode()
    done = changer.post(url("record", "retry"), {"pks": row.pk, "back": address})
    assert done["Location"] == address
    assert states(row) == ["pending"]
    again = changer.post(url("record", "retry"), {"pks": row.pk, "back": "https://elsewhere.example/"})
    assert again["Location"] == url("record", "changelist")
    assert messages_of(again).endswith("No record was retried. 1 is not rejected and stays unchanged.")


@pytest.mark.parametrize("pks", ["", "x,-1,,9" + "9" * 5_000, "1; DROP TABLE"])
def test_invalid_ids_in_the_form_change_nothing(changer: Client, pks: str) -> None:
    row = rows.rejected()
    assert changer.post(url("record", "retry"), {"pks": pks}).status_code == 302
    assert states(row) == ["rejected"]


def test_more_records_than_a_chunk(changer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "CHUNK", 3)
    rejected = [rows.rejected() for _ in range(8)]
    page = select(changer, "record", [rejected[0].pk], across=True, query="?state=rejected")
    assert len(page.context["result"].reopened) == 8
    confirm(changer, page)
    assert set(states(*rejected)) == {"pending"}
    assert LogEntry.objects.count() == 8


def test_only_the_records_of_the_preview_are_retried(changer: Client) -> None:
    first = rows.rejected()
    page = select(changer, "record", [first.pk], across=True, query="?state=rejected")
    later = rows.rejected()
    confirm(changer, page)
    assert states(first, later) == ["pending", "rejected"]


def test_more_records_than_fields_allowed_in_a_form(changer: Client) -> None:
    home = rows.batch(BatchState.FAILED)
    OutboxRecord.rows.bulk_create(
        OutboxRecord(
            workspace="default", type="message", product_id="prod", identity=f"{n:032x}", payload="{}",
            contract="reference", size=2, enqueued_at=home.sealed_at, batch=home,
            closed_as="rejected",
        )
        for n in range(1_200)
    )  # fmt: skip
    page = select(changer, "record", [OutboxRecord.rows.first().pk], across=True, query="?state=rejected")
    done = confirm(changer, page)
    assert messages_of(done) == "1,200 records are pending again; the workers send them."
    assert OutboxRecord.rows.pending().count() == 1_200


@pytest.mark.parametrize("model", ["record", "batch"])
def test_too_many_records_are_an_error(changer: Client, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    monkeypatch.setattr(retry, "MAX_SELECTED", 2)
    rejected = [rows.rejected() for _ in range(3)]
    page = select(
        changer, model, [getattr(rejected[0], "pk" if model == "record" else "batch_id")], across=True
    )
    assert page.status_code == 302
    assert "More than 2 are selected; nothing was changed. Narrow the filter" in messages_of(page)
    assert set(states(*rejected)) == {"rejected"}


def test_a_batch_with_too_many_rejected_records(changer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "MAX_SELECTED", 2)
    home = rows.batch(BatchState.FAILED)
    for _ in range(3):
        rows.record(home, closed_as="rejected")
    assert "More than 2" in messages_of(select(changer, "batch", [home.pk]))


def test_the_rejected_records_of_batches(changer: Client) -> None:
    failed, mixed = rows.batch(BatchState.FAILED), rows.batch(BatchState.COMPLETE)
    lost = rows.record(failed, closed_as="rejected")
    refused, delivered = rows.record(mixed, closed_as="rejected"), rows.record(mixed)
    untouched = rows.rejected()
    page = select(changer, "batch", [failed.pk, mixed.pk])
    assert page.context["selected"] == 2
    done = confirm(changer, page)
    assert done["Location"] == url("batch", "changelist")
    assert states(lost, refused, delivered, untouched) == ["pending", "pending", "delivered", "rejected"]
