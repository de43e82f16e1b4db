"""Records are sent later, or not after a time."""

from __future__ import annotations

from datetime import timedelta
from unittest.mock import patch

from django.db import transaction

from evermuse_outbox import jobs, outbox
from evermuse_outbox.delivery.deferral import apply_all_due, hold, release_held
from evermuse_outbox.delivery.scheduling import ResumePoint, RunQueue
from evermuse_outbox.models import OutboxBatch, OutboxDeferral, OutboxRecord, OutboxWorkspace
from evermuse_outbox.operations import select_records
from tests.records import record

from ..environment import Environment
from ..scenario import scenario

MINUTE = timedelta(minutes=1)

RULE = 7
"""Id of a standing rule. No row is needed for it."""


def put(env: Environment, number: int, version: int = 1, **times: timedelta) -> OutboxRecord:
    """Enqueue a version of a record, with times by the clock of the scenario."""
    with patch("evermuse_outbox.timing.timing.database_now", lambda using: env.clock.now()):
        return outbox.enqueue(record(number, data={"version": version}), using=env.alias, **times)


def apply_later(env: Environment) -> None:
    """Apply all that is due some minutes later, as the next tick does."""
    env.clock.move(600)
    apply_all_due(env.alias, "default", env.context.clock)


def prepare_deferred(env):
    """Schedule a record, let one expire, and debounce two versions of a third, which share a time."""
    row = put(env, 1, send_after=MINUTE)
    queue = RunQueue(resume_points={(row.type, row.product_id): ResumePoint(env.clock.now(), 10**6)})
    OutboxWorkspace.objects.using(env.alias).update_or_create(
        pk="default", defaults={"run_queue": queue.to_json()}
    )
    put(env, 2, expires_at=MINUTE)
    put(env, 3, debounce=MINUTE, max_delay=MINUTE)
    put(env, 3, version=2, debounce=3 * MINUTE)
    env.clock.move(61)


@scenario(
    prepare=prepare_deferred,
    repair=apply_later,
    expected="delivered expired superseded delivered",
    is_main=True,
)
def deferrals_applied(env):
    """The deferrals that are due are applied."""
    apply_all_due(env.alias, "default", env.context.clock)


def prepare_hold(env):
    """Enqueue two records, one of which expires much later."""
    env.enqueue(1)
    put(env, 2, expires_at=60 * MINUTE)


def release_rule(env: Environment) -> None:
    """End the rule, as a worker does, and apply what is due then."""
    release_held(env.alias, RULE, env.clock.now(), 100)
    apply_later(env)


@scenario(prepare=prepare_hold, repair=release_rule, expected="delivered delivered")
def held_until_released(env):
    """A standing rule holds records back."""
    with transaction.atomic(using=env.alias):
        hold(env.alias, "default", [row.pk for row in env.records], RULE, None)


def prepare_held(env):
    """Hold two records back, one of which may not be sent when the rule has ended."""
    prepare_hold(env)
    held_until_released(env)
    OutboxDeferral.objects.using(env.alias).filter(expires_at__isnull=False).update(
        send_after=env.clock.now() + 5 * MINUTE
    )


@scenario(prepare=prepare_held, repair=release_rule, expected="delivered delivered")
def held_records_released(env):
    """The records of a rule that has ended become pending, or scheduled."""
    release_held(env.alias, RULE, env.clock.now(), 100)
    apply_all_due(env.alias, "default", env.context.clock)


def prepare_handed_on(env):
    """Debounce two versions. The older one is due, and its identity may wait longer."""
    put(env, 1, debounce=MINUTE)
    env.clock.move(30)
    put(env, 1, version=2, debounce=MINUTE)
    env.clock.move(31)


@scenario(prepare=prepare_handed_on, repair=apply_later, expected="superseded delivered")
def debounced_handed_on(env):
    """An older version hands its latest time on to the newer one."""
    apply_all_due(env.alias, "default", env.context.clock)


def prepare_expired(env):
    """Let a pending record expire, with another one of its group."""
    put(env, 1, expires_at=MINUTE)
    env.enqueue(2)
    env.clock.move(61)


@scenario(prepare=prepare_expired, repair=apply_later, expected="expired delivered")
def expired_in_page(env):
    """A page of sealing has a record that expires."""
    env.send()


def prepare_reschedule(env):
    """Let a person confirm that a scheduled record is sent now."""
    put(env, 1, send_after=60 * MINUTE)
    now = {"send_after": env.clock.now().isoformat()}
    job = jobs.create(env.alias, "reschedule", by="anna", reason="no embargo", selection="all", options=now)
    while not jobs.collect(job, select_records(env.alias, state="scheduled")):
        pass
    jobs.confirm(job)


def operate_and_apply(env: Environment) -> None:
    """Execute the job as the workers do, and apply what is due then."""
    env.operate()
    apply_later(env)


@scenario(prepare=prepare_reschedule, repair=operate_and_apply, expected="delivered")
def rescheduled(env):
    """A job lets scheduled records be sent now."""
    env.operate()


def check_scheduled(env: Environment, states: list[str]) -> None:
    """Check that the record was committed with its deferral, or not at all."""
    assert states in ([], ["delivered"])
    assert not OutboxDeferral.objects.using(env.alias).exists()
    assert OutboxBatch.objects.using(env.alias).count() == len(states)


@scenario(prepare=lambda env: None, repair=apply_later, expected=check_scheduled)
def scheduled(env):
    """The host enqueues a record that is sent later."""
    put(env, 1, send_after=MINUTE)
