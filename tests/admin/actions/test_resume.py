"""Resume: the button on a page, the action on a list, and their messages."""

from __future__ import annotations

import pytest
from django.test import Client

from evermuse_outbox.models import OutboxGroup, OutboxWorkspace, WorkspaceState
from tests.admin import rows
from tests.admin.actions.test_retry import messages_of
from tests.admin.client import url
from tests.rows import group

pytestmark = pytest.mark.django_db


def test_resume_a_workspace(changer: Client) -> None:
    OutboxWorkspace.objects.pause("default", rows.timezone.now(), "HTTP 401")
    done = changer.post(url("workspace", "resume", "default"))
    assert done["Location"] == url("workspace", "change", "default")
    assert OutboxWorkspace.objects.get().state == WorkspaceState.ACTIVE
    assert messages_of(done) == "default is active again; the workers continue."
    assert "active already" in messages_of(changer.post(url("workspace", "resume", "default")))
    assert changer.post(url("workspace", "resume", "nowhere")).status_code == 404


def test_resume_workspaces_from_the_list(changer: Client) -> None:
    for name in ("north", "south"):
        OutboxWorkspace.objects.back_off_uncounted(name, rows.timezone.now(), "HTTP 503")
    data = {"action": "resume_selected", "_selected_action": ["north", "south"], "index": 0}
    changer.post(url("workspace", "changelist"), data)
    assert set(OutboxWorkspace.objects.values_list("state", flat=True)) == {WorkspaceState.ACTIVE}


def test_resume_a_group_by_its_button_and_by_the_action(changer: Client) -> None:
    row = group("default")
    answer = changer.post(url("group", "resume", row.pk), follow=True)
    assert "is active again; the workers continue." in answer.content.decode()
    assert not OutboxGroup.objects.exists()

    row = group("default")
    data = {"action": "resume_selected", "_selected_action": row.pk}
    changer.post(url("group", "changelist"), data)
    assert not OutboxGroup.objects.exists()
