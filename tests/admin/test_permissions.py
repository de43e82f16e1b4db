"""What each permission allows, and that no user can edit rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from django.contrib import admin
from django.test import Client

from evermuse_outbox import models
from evermuse_outbox.models import BatchState, OutboxRecord, OutboxWorkspace, WorkspaceState
from tests.rows import group

from . import rows
from .client import url
from .conftest import VIEW

pytestmark = pytest.mark.django_db

RESUME = {"action": "resume"}


@pytest.fixture
def row() -> OutboxRecord:
    OutboxWorkspace.objects.create(name="default", state=WorkspaceState.PAUSED, reason="HTTP 401")
    return rows.rejected()


def addresses(row: OutboxRecord) -> dict[str, str]:
    return {
        url("record", "changelist"): "record",
        url("record", "change", row.pk): "record",
        url("record", "payload", row.pk): "record",
        url("batch", "changelist"): "batch",
        url("batch", "change", row.batch_id): "batch",
        url("workspace", "changelist"): "workspace",
        url("workspace", "change", "default"): "workspace",
    }


def test_without_permission_no_page_is_shown(person: Callable[..., Client], row: OutboxRecord) -> None:
    client = person()
    for address in addresses(row):
        assert client.get(address).status_code == 403, address
    assert Client().get(url("record", "payload", row.pk)).status_code == 302


def test_each_model_has_a_permission(person: Callable[..., Client], row: OutboxRecord) -> None:
    only_batches = person("view_outboxbatch")
    for address, model in addresses(row).items():
        assert only_batches.get(address).status_code == (200 if model == "batch" else 403), address


def test_view_permission_offers_no_action(viewer: Client, row: OutboxRecord) -> None:
    for address in (a for a in addresses(row) if "payload" not in a):
        text = viewer.get(address).content.decode()
        for offer in ("Retry", "Resume", 'name="action"', 'name="_save"'):
            assert offer not in text, (address, offer)


def test_change_permission_offers_the_actions(changer: Client, row: OutboxRecord) -> None:
    offers = {
        url("record", "changelist"): "Retry rejected records",
        url("record", "change", row.pk): ">Retry rejected records</button>",
        url("batch", "changelist"): "Retry rejected records",
        url("workspace", "changelist"): "Resume selected workspaces now",
        url("workspace", "change", "default"): ">Resume now</button>",
        url("group", "changelist"): "Resume selected groups in trouble now",
        url("group", "change", group("default").pk): ">Resume now</button>",
    }
    for address, offer in offers.items():
        text = changer.get(address).content.decode()
        assert offer in text, address
        assert 'name="_save"' not in text


def test_retry_is_offered_only_for_rejected_records(changer: Client) -> None:
    text = changer.get(url("record", "change", rows.record().pk)).content.decode()
    assert ">Discard records</button>" in text
    assert ">Retry rejected records</button>" not in text


def test_retrying_batches_needs_the_permission_of_records(
    person: Callable[..., Client], row: OutboxRecord
) -> None:
    client = person("change_outboxbatch", "view_outboxrecord")
    assert "Retry" not in client.get(url("batch", "changelist")).content.decode()
    assert client.post(url("batch", "start", row.batch_id, "retry")).status_code == 403


def test_actions_without_permission_are_refused(viewer: Client, row: OutboxRecord) -> None:
    assert viewer.post(url("record", "start", row.pk, "retry")).status_code == 403
    assert viewer.post(url("workspace", "exit", "default"), RESUME).status_code == 403
    assert viewer.post(url("group", "exit", group("default").pk), RESUME).status_code == 403
    viewer.post(url("record", "changelist"), {"action": "start_retry", "_selected_action": row.pk})
    row.refresh_from_db()
    assert row.state == "rejected"
    assert not models.OutboxOperation.objects.exists()
    assert OutboxWorkspace.objects.get().state == WorkspaceState.PAUSED


def test_actions_need_a_post_request(changer: Client, row: OutboxRecord) -> None:
    assert changer.get(url("record", "start", row.pk, "retry")).status_code == 405
    assert changer.get(url("workspace", "exit", "default")).status_code == 405


def test_actions_need_the_csrf_token(admin_user: object, row: OutboxRecord) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(admin_user)
    assert strict.post(url("record", "start", row.pk, "retry")).status_code == 403
    assert strict.post(url("workspace", "exit", "default"), RESUME).status_code == 403


def test_a_superuser_cannot_edit_rows(admin_client: Client, row: OutboxRecord) -> None:
    for model, pk in (("record", row.pk), ("batch", row.batch_id), ("workspace", "default")):
        assert admin_client.get(url(model, "add")).status_code == 403
        assert admin_client.get(url(model, "delete", pk)).status_code == 403
        assert admin_client.post(url(model, "change", pk), {"type": "call"}).status_code == 403
        assert "delete_selected" not in admin_client.get(url(model, "changelist")).content.decode()


def test_rejections_and_throttles_have_no_list() -> None:
    for name in ("OutboxRejection", "OutboxThrottle"):
        assert not admin.site.is_registered(getattr(models, name))


# --- payloads ---------------------------------------------------------------------------------------------

SECRET = "the-secret-of-the-payload"
HIDDEN = "needs the permission evermuse_outbox.view_payload_outboxrecord"


@pytest.fixture
def with_secret() -> OutboxRecord:
    """A delivered record with a secret payload, in a batch with its exact bytes and an attempt."""
    payload = rows.line(SECRET, SECRET)
    body = f"{payload}\n".encode()
    home = rows.batch(
        BatchState.COMPLETE, sha256=hashlib.sha256(body).hexdigest(), record_count=1, byte_count=len(body)
    )
    rows.attempt(home)
    return rows.record(home, payload=payload)


def test_without_the_permission_payloads_are_hidden(
    person: Callable[..., Client], with_secret: OutboxRecord
) -> None:
    client, row = person(*VIEW), with_secret
    for address in (
        url("record", "changelist"),
        url("record", "change", row.pk),
        url("batch", "changelist"),
        url("batch", "change", row.batch_id),
    ):
        assert SECRET not in client.get(address).content.decode(), address
    assert HIDDEN in client.get(url("record", "change", row.pk)).content.decode()
    assert HIDDEN in client.get(url("batch", "change", row.batch_id)).content.decode()
    for address in (url("record", "payload", row.pk), url("batch", "request", row.batch_id)):
        response = client.get(address)
        assert response.status_code == 403
        assert SECRET not in response.content.decode()


def test_without_the_permission_text_is_not_searched(
    person: Callable[..., Client], with_secret: OutboxRecord
) -> None:
    client = person(*VIEW)
    for term in ('"secret"', "the-secret"):
        response = client.get(url("record", "changelist"), {"q": term})
        assert not response.context["cl"].result_list
        assert "that needs the permission to view them" in response.content.decode()
    # A complete vendor id is looked up: a person with that id may find its record.
    response = client.get(url("record", "changelist"), {"q": SECRET})
    assert [row.pk for row in response.context["cl"].result_list] == [with_secret.pk]


def test_with_the_permission_payloads_are_shown(viewer: Client, with_secret: OutboxRecord) -> None:
    for address in (
        url("record", "changelist"),
        url("record", "change", with_secret.pk),
        url("record", "payload", with_secret.pk),
        url("batch", "request", with_secret.batch_id),
    ):
        assert SECRET in viewer.get(address).content.decode(), address
    assert HIDDEN not in viewer.get(url("record", "change", with_secret.pk)).content.decode()


def test_a_payload_needs_the_view_permission_too(
    person: Callable[..., Client], with_secret: OutboxRecord
) -> None:
    client = person("view_payload_outboxrecord")
    assert client.get(url("record", "payload", with_secret.pk)).status_code == 403
    assert client.get(url("batch", "request", with_secret.batch_id)).status_code == 403
