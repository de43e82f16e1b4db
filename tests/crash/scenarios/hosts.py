"""A host enqueues, and people ask for something."""

from __future__ import annotations

from django.contrib.auth.models import Group
from django.db import transaction

from evermuse_outbox import outbox
from evermuse_outbox.operations import retry_records
from tests.records import record

from ..environment import Life
from ..scenario import scenario


def nothing(life: Life) -> None:
    """Nothing was before."""


def all_or_nothing(life: Life, states: list[str]) -> None:
    """The host's row is there if, and only if, its records are."""
    assert states == ["delivered"] * (4 if Group.objects.using(life.alias).exists() else 0)


@scenario(before=nothing, ends=all_or_nothing, main=True)
def enqueue(life):
    """A host writes a row of its own and records, in one transaction."""
    with transaction.atomic(using=life.alias):
        Group.objects.using(life.alias).create(name="a row of the host")
        outbox.enqueue(record(1), using=life.alias)
        outbox.enqueue_many([record(n) for n in (2, 3, 4)], using=life.alias)


def three_or_none(life: Life, states: list[str]) -> None:
    """All of the call, or nothing of it."""
    assert states in ([], ["delivered"] * 3)


@scenario(before=nothing, ends=three_or_none)
def enqueue_many(life):
    """A host writes records in no transaction of its own: all or none."""
    outbox.enqueue_many([record(n) for n in (1, 2, 3)], using=life.alias)


def rejected_before(life):
    _, row, _ = life.enqueue(1, 2, 3, bad=(2,))
    life.relay()
    life.rewrite(row, "nonsense", "evidence")


def back_or_not(life: Life, states: list[str]) -> None:
    """Either the person's word was heard, or it can be given again."""
    assert states in (["delivered"] * 3, ["delivered", "rejected", "delivered"])


@scenario(before=rejected_before, ends=back_or_not, main=True)
def retried(life):
    """A person asks for a rejected record once more."""
    retry_records(life.alias, [row.pk for row in life.records.filter(state="rejected")])


def discarded_or_not(life: Life, states: list[str]) -> None:
    """A pending record that was not discarded in time goes its way."""
    assert states in (["delivered"] * 3, ["discarded"] * 3)


@scenario(ends=discarded_or_not)
def discarded(life):
    """A person gives records up."""
    life.records.model.rows.using(life.alias).discard()
