"""The job of a backfill in the admin: its page shows the progress, and pauses, continues and cancels it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from evermuse_outbox.backfill import Plan, begin
from evermuse_outbox.model_records import declaration_of
from evermuse_outbox.models import OutboxOperation
from example_project.support.models import Email
from tests.admin.client import url
from tests.mails_model import declared_as, insert_mails

pytestmark = pytest.mark.django_db


@pytest.fixture
def job() -> OutboxOperation:
    insert_mails("default", 4)
    with declared_as():
        declaration = declaration_of(Email)
        assert declaration is not None
        return begin(Plan(declaration, "default"))


@pytest.fixture
def operator(person: Callable[..., Client]) -> Client:
    return person("view_outboxoperation", "retry_outboxrecord")


def test_the_page_says_that_a_command_executes_it(operator: Client, job: OutboxOperation) -> None:
    text = operator.get(url("operation", "change", job.pk)).content.decode()
    assert "Backfill" in text
    assert "all support.Email" in text
    assert "The command outbox_backfill executes it." in text
    assert "List of its records" not in text


@pytest.mark.parametrize(("buttons", "state"), [(["pause"], "paused"), (["pause", "proceed"], "running")])
def test_it_can_be_paused_and_continued(
    operator: Client, job: OutboxOperation, buttons: list[str], state: str
) -> None:
    for action in buttons:
        operator.post(url("operation", "job", job.pk), {"action": action})
    job.refresh_from_db()
    assert job.state == state


def test_it_can_be_cancelled(operator: Client, job: OutboxOperation) -> None:
    operator.post(url("operation", "job", job.pk), {"action": "cancel"})
    job.refresh_from_db()
    assert job.state == "cancelled"


def test_it_needs_the_permission_to_retry(person: Callable[..., Client], job: OutboxOperation) -> None:
    client = person("view_outboxoperation")
    assert client.get(url("operation", "change", job.pk)).status_code == 200
    assert client.post(url("operation", "job", job.pk), {"action": "pause"}).status_code == 403
