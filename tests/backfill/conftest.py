"""A backfill of mails: the plan, and a workspace whose rate limit is free."""

import pytest

from evermuse_outbox.backfill import Plan
from evermuse_outbox.model_records import declaration_of
from example_project.support.models import Email
from tests.conftest import FreeThrottle
from tests.mails_model import declared_as


@pytest.fixture
def throttle(monkeypatch):
    free = FreeThrottle()
    monkeypatch.setattr("evermuse_outbox.delivery.context.context.open_throttle", lambda *_: free)
    return free


@pytest.fixture
def plan(alias, throttle, clock, monkeypatch):
    """Return a function that makes the plan of a backfill of mails."""
    monkeypatch.setattr("evermuse_outbox.delivery.context.clock.time.sleep", lambda _: None)

    def make(**values):
        return Plan(declaration=declaration_of(Email), using=alias, **values)

    with declared_as():
        yield make
