"""Clients of the admin that are logged in with different permissions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

VIEW = ("view_outboxrecord", "view_outboxbatch", "view_outboxworkspace", "view_outboxgroup")


@pytest.fixture
def person(db: None) -> Callable[..., Client]:
    """Return a function that logs in a member of staff with these permissions."""

    def log_in(*codenames: str) -> Client:
        user = User.objects.create_user(f"person{User.objects.count()}", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client = Client()
        client.force_login(user)
        return client

    return log_in


@pytest.fixture
def viewer(person: Callable[..., Client]) -> Client:
    """A client that may view everything, payloads included."""
    return person(*VIEW, "view_payload_outboxrecord")


@pytest.fixture
def changer(person: Callable[..., Client]) -> Client:
    return person(
        "change_outboxrecord",
        "change_outboxbatch",
        "change_outboxworkspace",
        "change_outboxgroup",
        "retry_outboxrecord",
        "discard_outboxrecord",
        "erase_outboxrecord",
        "view_payload_outboxrecord",
        "pause_outboxworkspace",
    )
