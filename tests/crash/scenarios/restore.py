"""A database is restored from a backup: nothing is sent until a person decides."""

from __future__ import annotations

import dataclasses
import tempfile

from evermuse_outbox import operations
from evermuse_outbox.delivery.loop import seal_next
from evermuse_outbox.delivery.polling import UnknownBatches
from evermuse_outbox.delivery.sending import give_back
from evermuse_outbox.evermuse.api import Status
from evermuse_outbox.models import BatchState, OutboxBatch, OutboxRecord, OutboxWorkspace
from evermuse_outbox.sandbox import Fault
from tests.backup import restore_backup, take_backup

from ..environment import Environment
from ..scenario import scenario

STORE = {"EPOCH_DIRECTORY": tempfile.gettempdir()}
"""All processes of a scenario share the epoch store."""


def prepare_restored_backup(env):
    """Restore a backup from before the records were sent."""
    env.enqueue(1, 2, 3)
    OutboxWorkspace.objects.using(env.alias).ensure_row("default")
    backup = take_backup(env.alias)
    env.relay()
    restore_backup(env.alias, backup)


def release(env: Environment) -> None:
    """Release the workspace if it is held."""
    operations.release(env.context)


def notice_and_release(env: Environment) -> None:
    """Let a worker notice the restore, which a dead worker may not have done, and release the workspace."""
    env.relay()
    posts = [arrival for arrival in env.sandbox.arrivals if arrival.method == "POST"]
    assert len(posts) == 1, "a batch was sent before the decision"
    release(env)


# The first batch is lost in the restore, so what Evermuse got cannot be compared with the rows.
@scenario(prepare=prepare_restored_backup, repair=notice_and_release, settings=STORE, is_purging=True)
def noticed_restore(env):
    """A worker notices that the database was restored, and holds the workspace."""
    env.send()


def prepare_held_workspace(env):
    prepare_restored_backup(env)
    env.relay()


@scenario(prepare=prepare_held_workspace, repair=release, settings=STORE, is_purging=True)
def released_restore(env):
    """An operator releases a workspace that was held after a restore."""
    release(env)


@scenario(repair=release, settings=STORE)
def held_by_hand(env):
    """An operator declares that the database was restored."""
    operations.hold(env.context, reason="declared by hand")


def prepare_records_at_risk(env):
    """Hold a workspace with a failed batch, one in doubt, one that is sealed, and a pending record."""
    for number, fault in enumerate((Fault.failed_batch(), Fault.drop_before())):
        env.sandbox.fail_next(fault)
        env.enqueue(number)
        env.send(prefer_new=True)
        env.clock.move(30)
    env.enqueue(3)
    give_back(env.context, seal_next(env.context))
    env.enqueue(4)
    operations.hold(env.context, reason="declared by hand")
    OutboxRecord.rows.using(env.alias).update(enqueued_at=env.clock.now())


def compare(env: Environment) -> operations.Reconciliation:
    """Return what is at risk if Evermuse has got a batch of this type a moment ago."""
    created_at = env.clock.seconds() * 1000
    lost = Status("lost", "COMPLETE", 1, 0, 0, (), created_at, "message")
    accepted = OutboxBatch.objects.using(env.alias).filter(state=BatchState.ACCEPTED)
    failed = [dataclasses.replace(lost, remote_id=batch.remote_id, status="FAILED") for batch in accepted]
    return operations.compare(env.context, [lost, *failed], UnknownBatches((lost,), ()), env.clock.now())


def check_discarded_or_delivered(env: Environment, states: list[str]) -> None:
    """Check that the discarding was carried out, or can be repeated."""
    assert set(states) <= {"delivered", "discarded"}


@scenario(
    prepare=prepare_records_at_risk,
    repair=release,
    expected=check_discarded_or_delivered,
    settings=STORE,
    is_purging=True,
)
def discarded_after_restore(env):
    """An operator discards the records at risk."""
    operations.discard_at_risk(env.context, compare(env))
