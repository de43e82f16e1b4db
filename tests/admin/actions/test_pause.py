"""Pause and resume by a person: workspaces, groups in trouble, and groups without a row."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from evermuse_outbox.models import OutboxAction, OutboxGroup, OutboxWorkspace
from tests.admin.client import messages_of, url

pytestmark = pytest.mark.django_db

GROUP = {"workspace": "default", "type": "message", "product_id": "prod-1", "reason": "wrong import"}


@pytest.fixture
def pauser(person: Callable[..., Client]) -> Client:
    return person("view_outboxworkspace", "view_outboxgroup", "pause_outboxworkspace")


def test_a_workspace_is_paused_and_resumed(pauser: Client) -> None:
    OutboxWorkspace.objects.create(name="default")
    page = url("workspace", "change", "default")
    assert ">Pause</button>" in pauser.get(page).content.decode()
    exit_url = url("workspace", "exit", "default")
    pauser.post(exit_url, {"action": "hold", "reason": "wrong import"})
    assert OutboxWorkspace.objects.get().state == "held"
    text = pauser.get(page).content.decode()
    assert "wrong import" in text
    assert ">Pause</button>" not in text
    pauser.post(exit_url, {"action": "resume", "reason": "import corrected"})
    assert OutboxWorkspace.objects.get().state == "active"
    reasons = OutboxAction.objects.order_by("pk").values_list("kind", "reason")
    assert list(reasons) == [("pause", "wrong import"), ("resume", "import corrected")]


def test_a_group_without_a_row_is_paused_and_resumed(pauser: Client) -> None:
    link = url("group", "pause")
    assert f'href="{link}"' in pauser.get(url("group", "changelist")).content.decode()
    assert 'value="prod-1"' in pauser.get(link, GROUP).content.decode()
    done = pauser.post(link, GROUP)
    row = OutboxGroup.objects.get()
    assert (row.state, row.type, row.product_id, row.reason) == ("held", "message", "prod-1", "wrong import")
    assert "until a person resumes it" in messages_of(done)
    assert "held already" in messages_of(pauser.post(link, GROUP))
    pauser.post(url("group", "exit", row.pk), {"action": "resume"})
    assert not OutboxGroup.objects.exists()


@pytest.mark.parametrize("field", ["workspace", "type", "product_id"])
def test_a_group_needs_a_name(pauser: Client, field: str) -> None:
    page = pauser.post(url("group", "pause"), GROUP | {field: ""})
    assert "Enter a workspace of the settings" in page.content.decode()
    assert not OutboxGroup.objects.exists()


def test_pausing_needs_its_permission(person: Callable[..., Client]) -> None:
    OutboxWorkspace.objects.create(name="default")
    client = person("view_outboxworkspace", "view_outboxgroup", "change_outboxworkspace")
    assert "Pause" not in client.get(url("workspace", "change", "default")).content.decode()
    assert "Pause" not in client.get(url("group", "changelist")).content.decode()
    assert client.post(url("workspace", "exit", "default"), {"action": "hold"}).status_code == 403
    assert client.post(url("group", "pause"), GROUP).status_code == 403
