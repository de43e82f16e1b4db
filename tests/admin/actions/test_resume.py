"""Resume: the button on a page, the action on a list, and their messages."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client

from evermuse_outbox.models import OutboxAction, OutboxGroup, OutboxWorkspace, WorkspaceState
from tests.admin import rows
from tests.admin.client import messages_of, url
from tests.rows import group

pytestmark = pytest.mark.django_db

RESUME = {"action": "resume", "reason": "the key was corrected"}


def test_resume_a_workspace(changer: Client) -> None:
    OutboxWorkspace.objects.using("default").pause("default", rows.timezone.now(), "HTTP 401")
    done = changer.post(url("workspace", "exit", "default"), RESUME)
    assert done["Location"] == url("workspace", "change", "default")
    assert OutboxWorkspace.objects.get().state == WorkspaceState.ACTIVE
    assert messages_of(done) == "default: It is active again; the workers continue."
    assert "nothing was done" in messages_of(changer.post(url("workspace", "exit", "default"), RESUME))
    assert changer.post(url("workspace", "exit", "nowhere"), RESUME).status_code == 404
    action = OutboxAction.objects.get()
    assert (action.by, action.kind, action.target) == ("person0", "resume", "workspace default")
    assert action.reason == "the key was corrected"


def test_a_retry_after_ends_only_with_a_confirmation(changer: Client, monkeypatch) -> None:
    until = rows.timezone.now() + timedelta(minutes=30)
    OutboxWorkspace.objects.using("default").throttle("default", until, "HTTP 429")
    page = changer.get(url("workspace", "change", "default")).content.decode()
    assert "Resume before the end of retryAfter" in page
    data = {"action": "force", "reason": "it was in milliseconds"}
    assert "Confirm" in messages_of(changer.post(url("workspace", "exit", "default"), data))
    assert OutboxWorkspace.objects.get().state == WorkspaceState.THROTTLED
    changer.post(url("workspace", "exit", "default"), data | {"confirmed": "1"})
    assert OutboxWorkspace.objects.get().state == WorkspaceState.ACTIVE
    assert OutboxAction.objects.get().kind == "force_resume"


def test_resume_workspaces_from_the_list(changer: Client) -> None:
    for name in ("north", "south"):
        OutboxWorkspace.objects.using("default").back_off_uncounted(name, rows.timezone.now(), "HTTP 503")
    data = {"action": "resume_selected", "_selected_action": ["north", "south"], "index": 0}
    changer.post(url("workspace", "changelist"), data)
    assert set(OutboxWorkspace.objects.values_list("state", flat=True)) == {WorkspaceState.ACTIVE}


def test_resume_a_group_by_its_button_and_by_the_action(changer: Client) -> None:
    row = group("default")
    answer = changer.post(url("group", "exit", row.pk), RESUME, follow=True)
    assert "is active again; the workers continue." in answer.content.decode()
    assert not OutboxGroup.objects.exists()

    row = group("default")
    data = {"action": "resume_selected", "_selected_action": row.pk}
    changer.post(url("group", "changelist"), data)
    assert not OutboxGroup.objects.exists()
