"""Tests of the pages: messages and their records are committed together or not at all."""

from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError

from evermuse_outbox import outbox
from evermuse_outbox.models import OutboxRecord
from evermuse_outbox.testing import capture_records
from example_project.support import desk
from example_project.support.models import Conversation, Message

pytestmark = pytest.mark.django_db

OPENING = {
    "customer_name": "Ada",
    "customer_email": "ada@acme.example",
    "subject": "The <export> stops",
    "body": "Hello, it stops halfway. 😕",
}


@pytest.fixture
def conversation():
    return desk.open_conversation(**OPENING)


def refuse_second(monkeypatch, error: Exception) -> None:
    """Let the first call of ``enqueue`` succeed and the second one raise the error."""
    original_enqueue, calls = outbox.enqueue, []

    def enqueue(record, **options):
        calls.append(record)
        if len(calls) > 1:
            raise error
        return original_enqueue(record, **options)

    monkeypatch.setattr(outbox, "enqueue", enqueue)


def test_health(client):
    response = client.get("/health/")
    assert (response.status_code, response.content) == (200, b"ok")


def test_a_desk_without_conversations(client):
    page = client.get("/")
    assert page.status_code == 200
    assert b"Nobody has written yet" in page.content


def test_opening_a_conversation(client, outbox_records):
    response = client.post("/", OPENING)
    conversation = Conversation.objects.get()
    assert response.headers["Location"] == f"/conversations/{conversation.pk}/"
    assert [message.body for message in conversation.messages.all()] == [OPENING["body"]]
    outbox_records.assert_enqueued(type="message", data__text=OPENING["body"], count=1)
    outbox_records.assert_enqueued(
        type="conversation", vendor_ids={"conversation_id": str(conversation.pk)}, count=1
    )


def test_evermuse_accepts_the_records_of_the_pages(client, conversation, deliver, evermuse_sandbox):
    client.post(f"/conversations/{conversation.pk}/", {"body": "Which version?", "from_desk": "on"})
    result = deliver()
    assert [record["_type"] for record in result.superseded] == ["conversation"]
    texts = {stored.record["data"].get("text") for stored in evermuse_sandbox.records()}
    assert texts == {OPENING["body"], "Which version?", None}
    page = client.get(f"/conversations/{conversation.pk}/").content.decode()
    assert page.count(">delivered</span>") == 2


def test_the_page_shows_a_message_that_evermuse_rejects(client, conversation, deliver, evermuse_sandbox):
    evermuse_sandbox.reject_record({"data.text": OPENING["body"]}, "Too odd for Evermuse.")
    (rejected,) = deliver(check=False).rejected
    assert rejected.message == "Too odd for Evermuse."
    assert ">rejected</span>" in client.get(f"/conversations/{conversation.pk}/").content.decode()


def test_the_list_shows_counts_and_escapes_html(client, conversation):
    page = client.get("/").content.decode()
    assert "1 conversation," in page
    assert "The &lt;export&gt; stops" in page
    assert 'href="/admin/"' in page


def test_a_message_enqueues_a_new_version_of_the_conversation(client, conversation, outbox_records):
    client.post(f"/conversations/{conversation.pk}/", {"body": "Which version?", "from_desk": "on"})
    first, second = outbox_records.assert_enqueued(type="conversation", count=2)
    assert [first[name] == second[name] for name in ("_vendor_ids", "_event_at")] == [True, True]
    assert [entry["sender"] for entry in second["data"]["messages"]] == ["customer", "agent"]
    outbox_records.assert_enqueued(type="message", thread_id=second["_thread_id"], count=2)
    assert [person["role"] for person in second["_participants"]] == ["external", "internal"]
    assert first.row.identity == second.row.identity


def test_the_page_shows_the_state_of_each_record(client, conversation):
    page = client.get(f"/conversations/{conversation.pk}/").content.decode()
    assert OPENING["body"] in page
    assert ">pending</span>" in page


def test_the_page_works_without_records(client, conversation):
    OutboxRecord.objects.all().delete()
    assert 'class="badge"' not in client.get(f"/conversations/{conversation.pk}/").content.decode()


def test_a_crash_between_two_records_saves_nothing(client, monkeypatch, outbox_records):
    refuse_second(monkeypatch, RuntimeError("on purpose"))
    client.raise_request_exception = False
    assert client.post("/", OPENING).status_code == 500
    assert not Conversation.objects.exists()
    assert not Message.objects.exists()
    outbox_records.refute_enqueued()


def test_a_refused_record_is_shown_and_saves_nothing(client, conversation, monkeypatch):
    refuse_second(monkeypatch, ValidationError("Too odd for Evermuse."))
    with capture_records() as records:
        page = client.post(f"/conversations/{conversation.pk}/", {"body": "my message"})
    assert b"Too odd for Evermuse." in page.content
    assert b"my message" in page.content
    assert Message.objects.count() == 1
    records.refute_enqueued()


def test_a_record_refused_by_validation(client, settings):
    settings.EVERMUSE_PRODUCT_ID = "p" * 129
    page = client.post("/", OPENING)
    assert page.status_code == 200
    assert b"errorlist" in page.content
    assert not Conversation.objects.exists()


@pytest.mark.parametrize("body", ["", "   ", "a\0b", "x" * 20_001])
def test_invalid_messages(client, conversation, body):
    assert b"errorlist" in client.post(f"/conversations/{conversation.pk}/", {"body": body}).content
    assert Message.objects.count() == 1


@pytest.mark.parametrize("pk", [0, 10**30])
def test_missing_conversation(client, pk):
    assert client.get(f"/conversations/{pk}/").status_code == 404


def test_pages_of_conversations(client):
    Conversation.objects.bulk_create(
        Conversation(subject=f"no. {n}", customer_email="a@b.example") for n in range(51)
    )
    assert b"Page 1 of 2" in client.get("/").content
    assert client.get("/?page=nonsense").status_code == 200


def test_a_long_conversation_keeps_its_newest_messages(conversation, outbox_records):
    long = Message(
        conversation=conversation, author_name="A", author_email="a@b.example", body="\x01" * 20_000
    )
    Message.objects.bulk_create(
        [Message(conversation=conversation, author_name="A", author_email="a@b.example", body=long.body)] * 50
    )
    desk.write_message(conversation.pk, "the newest")
    record = outbox_records.assert_enqueued(type="conversation", data__truncated=True)
    assert record["data"]["messages"][-1]["text"] == "the newest"


def test_admin_lists(admin_client, conversation):
    for name in ("conversation", "message", "email"):
        assert admin_client.get(f"/admin/support/{name}/").status_code == 200
