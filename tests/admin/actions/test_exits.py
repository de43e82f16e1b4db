"""The buttons that end a wait on the page of a batch, and the list of the manual actions."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client

from evermuse_outbox.models import BatchState, OutboxAction, OutboxBatch
from tests.admin import rows
from tests.admin.client import messages_of, url

pytestmark = pytest.mark.django_db


def waiting(state: str, **changes: object) -> OutboxBatch:
    """Return a batch that waits for half an hour."""
    return rows.batch(state, due_at=rows.timezone.now() + timedelta(minutes=30), **changes)


def offers(client: Client, batch: OutboxBatch) -> list[str]:
    """Return the names of the buttons on the page of a batch."""
    text = client.get(url("batch", "change", batch.pk)).content.decode()
    names = ("retry_now", "isolate", "give_up")
    return [name for name in names if f'name="action" value="{name}"' in text]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (BatchState.SEALED, ["retry_now", "isolate", "give_up"]),
        (BatchState.IN_DOUBT, ["retry_now", "isolate", "give_up"]),
        (BatchState.ISOLATING, ["retry_now", "give_up"]),
        (BatchState.ACCEPTED, ["retry_now", "give_up"]),
        (BatchState.COMPLETE, []),
        (BatchState.SPLIT, []),
    ],
)
def test_a_page_offers_what_is_possible_in_the_state(
    changer: Client, state: str, expected: list[str]
) -> None:
    changes = {"isolation": {}} if state == BatchState.ISOLATING else {}
    assert offers(changer, rows.batch(state, record_count=2, **changes)) == expected


def test_a_viewer_gets_no_buttons_and_cannot_post(viewer: Client) -> None:
    batch = waiting(BatchState.IN_DOUBT)
    assert offers(viewer, batch) == []
    assert viewer.post(url("batch", "exit", batch.pk), {"action": "retry_now"}).status_code == 403


def test_retry_now(changer: Client) -> None:
    batch = waiting(BatchState.IN_DOUBT)
    done = changer.post(url("batch", "exit", batch.pk), {"action": "retry_now", "reason": "it is up again"})
    assert "It is sent next." in messages_of(done)
    batch.refresh_from_db()
    assert batch.due_at < rows.timezone.now() + timedelta(minutes=1)
    action = OutboxAction.objects.get()
    assert (action.kind, action.target, action.reason) == (
        "retry_now",
        f"batch #{batch.pk}",
        "it is up again",
    )


def test_giving_up_needs_a_confirmation(changer: Client) -> None:
    batch = waiting(BatchState.IN_DOUBT)
    member = rows.record(batch)
    data = {"action": "give_up", "reason": "sent by hand"}
    assert "Confirm" in messages_of(changer.post(url("batch", "exit", batch.pk), data))
    member.refresh_from_db()
    assert member.state == "in_flight"
    assert "1 records are rejected" in messages_of(
        changer.post(url("batch", "exit", batch.pk), data | {"confirmed": "1"})
    )
    member.refresh_from_db()
    assert member.state == "rejected"


def test_what_is_no_longer_possible_changes_nothing(changer: Client) -> None:
    batch = rows.batch(BatchState.SPLIT)
    data = {"action": "give_up", "confirmed": "1"}
    assert "nothing was done" in messages_of(changer.post(url("batch", "exit", batch.pk), data))
    assert not OutboxAction.objects.exists()


def test_the_actions_on_a_row_are_found_from_its_page(admin_client: Client) -> None:
    batch = waiting(BatchState.IN_DOUBT)
    admin_client.post(url("batch", "exit", batch.pk), {"action": "retry_now", "reason": "it is up again"})
    page = admin_client.get(url("batch", "change", batch.pk)).content.decode()
    assert "Manual actions on this row" in page
    found = admin_client.get(url("action", "changelist"), {"q": f"batch #{batch.pk}"}).content.decode()
    assert "it is up again" in found
    assert (
        "it is up again"
        not in admin_client.get(url("action", "changelist"), {"q": "batch #0"}).content.decode()
    )
    action = OutboxAction.objects.get()
    assert "it is up again" in admin_client.get(url("action", "change", action.pk)).content.decode()
    assert admin_client.get(url("action", "delete", action.pk)).status_code == 403
