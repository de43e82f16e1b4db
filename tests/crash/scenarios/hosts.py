"""A host enqueues records, or an operator changes them."""

from __future__ import annotations

from django.contrib.auth.models import Group
from django.db import transaction

from evermuse_outbox import outbox
from evermuse_outbox.operations import retry_records
from tests.records import record

from ..environment import Environment
from ..scenario import scenario


def prepare_nothing(env: Environment) -> None:
    """Leave the outbox empty."""


def check_host_row_and_records(env: Environment, states: list[str]) -> None:
    """Check that the records exist if and only if the row of the host exists."""
    assert states == ["delivered"] * (4 if Group.objects.using(env.alias).exists() else 0)


@scenario(prepare=prepare_nothing, expected=check_host_row_and_records, is_main=True)
def enqueue(env):
    """A host writes a row and records in one transaction."""
    with transaction.atomic(using=env.alias):
        Group.objects.using(env.alias).create(name="a row of the host")
        outbox.enqueue(record(1), using=env.alias)
        outbox.enqueue_many([record(n) for n in (2, 3, 4)], using=env.alias)


def check_three_or_none(env: Environment, states: list[str]) -> None:
    """Check that all records of the call exist, or none."""
    assert states in ([], ["delivered"] * 3)


@scenario(prepare=prepare_nothing, expected=check_three_or_none)
def enqueue_many(env):
    """A host enqueues records outside a transaction."""
    outbox.enqueue_many([record(n) for n in (1, 2, 3)], using=env.alias)


def prepare_corrected_record(env):
    _, row, _ = env.enqueue(1, 2, 3, invalid=(2,))
    env.relay()
    env.rewrite(row, "nonsense", "evidence")


def check_reopened_or_rejected(env: Environment, states: list[str]) -> None:
    """Check that the retry was carried out, or can be repeated."""
    assert states in (["delivered"] * 3, ["delivered", "rejected", "delivered"])


@scenario(prepare=prepare_corrected_record, expected=check_reopened_or_rejected, is_main=True)
def retried(env):
    """An operator retries a rejected record."""
    retry_records(env.alias, [row.pk for row in env.records.filter(state="rejected")])


def check_all_discarded_or_delivered(env: Environment, states: list[str]) -> None:
    """Check that all records were discarded, or all were sent."""
    assert states in (["delivered"] * 3, ["discarded"] * 3)


@scenario(expected=check_all_discarded_or_delivered)
def discarded(env):
    """An operator discards pending records."""
    env.records.model.rows.using(env.alias).discard()
