"""A database is restored from a backup: nothing is sent until a person decides."""

from __future__ import annotations

import tempfile

from evermuse_outbox.models import OutboxWorkspace
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
    rows = OutboxWorkspace.objects.using(env.alias)
    rows.end_restored(rows.get())


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
