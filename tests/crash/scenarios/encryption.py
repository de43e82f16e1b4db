"""Payloads are decrypted, and data keys destroyed: after any kill, each record is readable or its key is destroyed."""

from __future__ import annotations

import dataclasses

from evermuse_outbox import jobs
from evermuse_outbox.delivery.loop import seal_next
from evermuse_outbox.delivery.sending import give_back
from evermuse_outbox.models import Cause, Decision, OutboxAction, OutboxDataKey, cause_of
from evermuse_outbox.models.payloads import forget_keys
from evermuse_outbox.operations.erasing import destroy_keys
from tests.keys import KEY, OTHER_KEY, stored_line

from ..environment import Environment
from ..scenario import scenario
from .repairs import check_job, execute, job_of

SETTINGS = {"ENCRYPTION_KEYS": [KEY]}


def prepare_decrypt(env):
    """Confirm a job that decrypts three records."""
    forget_keys(env.alias)  # this process has known the database of another scenario
    env.enqueue(1, 2, 3)
    jobs.confirm(job_of(env, "decrypt"), clock=env.context.clock)


def check_decrypted(env: Environment, states: list[str]) -> None:
    """Check that each payload is plain text, and that the job has counted each record once."""
    forget_keys(env.alias)
    check_job(env, states, "delivered delivered delivered", 3)
    assert all(stored_line(row) == row.payload for row in env.records)


@scenario(prepare=prepare_decrypt, settings=SETTINGS, expected=check_decrypted)
def job_decrypts(env):
    """Workers store payloads as plain text again, in two chunks."""
    execute(env)


def prepare_encrypted(env):
    """Leave three records with encrypted payloads."""
    forget_keys(env.alias)  # this process has known the database of another scenario
    env.enqueue(1, 2, 3)


def check_destroyed(env: Environment, states: list[str]) -> None:
    """Check that all is delivered if the keys are there, and discarded with a row of the action log if not."""
    forget_keys(env.alias)
    keys = OutboxDataKey.objects.using(env.alias).filter(destroyed_at__isnull=False)
    was_destroyed = keys.exists()
    assert OutboxAction.objects.using(env.alias).exists() == was_destroyed
    assert states == ["discarded" if was_destroyed else "delivered"] * 3
    assert {cause_of(row.payload) for row in env.records} == {Cause.DESTROYED if was_destroyed else None}


@scenario(
    prepare=prepare_encrypted,
    settings=SETTINGS,
    repair=lambda env: forget_keys(env.alias),
    expected=check_destroyed,
)
def keys_are_destroyed(env):
    """An operator destroys the keys of a workspace with records that wait."""
    clock = dataclasses.replace(env.context.clock, sleep=lambda seconds: None)
    destroy_keys(env.alias, "default", decision=Decision("anna"), clock=clock)


def prepare_sealed(env):
    """Leave three encrypted records in a sealed batch that waits to be sent."""
    prepare_encrypted(env)
    give_back(env.context, seal_next(env.context))


def check_sent_with_key(env: Environment, states: list[str]) -> None:
    """Check that the batch was sent, and as it was sealed."""
    assert states == ["delivered"] * 3
    assert env.records.values("batch").distinct().count() == 1


@scenario(
    prepare=prepare_sealed,
    settings=SETTINGS,
    repair=lambda env: forget_keys(env.alias),
    expected=check_sent_with_key,
)
def sealed_batch_without_its_key(env):
    """A worker lacks the master key of a sealed batch, and gives the batch back. The next worker has the key."""
    forget_keys(env.alias)
    with env.with_settings(ENCRYPTION_KEYS=[OTHER_KEY]):
        env.send()
