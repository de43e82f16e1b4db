"""The system checks of the encryption at rest."""

from __future__ import annotations

from evermuse_outbox.checks import check_settings, check_storage
from evermuse_outbox.checks import encryption as checks
from evermuse_outbox.database_clock import database_now
from evermuse_outbox.models import OutboxWorker
from tests.keys import KEY, OTHER_KEY
from tests.records import enqueue


def ids(messages):
    return {message.id.rpartition(".")[2] for message in messages} & {"E007", "W050", "W051"}


def test_the_library_is_missing(outbox_settings, monkeypatch):
    assert ids(check_settings()) == set()
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    assert ids(check_settings()) == set()
    outbox_settings(ENCRYPTION_KEYS=[KEY])
    assert ids(check_settings()) == {"E007"}


def test_a_master_key_is_missing(alias, outbox_settings):
    outbox_settings(DATABASES=[alias], ENCRYPTION_KEYS=[KEY])
    enqueue(alias, 1)
    assert ids(check_storage([alias])) == set()
    for keys in ([OTHER_KEY], None):
        outbox_settings(DATABASES=[alias], ENCRYPTION_KEYS=keys)
        assert ids(check_storage([alias])) == {"W050"}


def test_an_old_worker_is_at_work(alias, outbox_settings):
    now = database_now(alias)
    OutboxWorker.objects.using(alias).create(
        host="a", pid=1, version="0.1.0", command="x", started_at=now, last_seen_at=now
    )
    assert ids(check_storage([alias])) == set()
    outbox_settings(DATABASES=[alias], ENCRYPTION_KEYS=[KEY])
    assert ids(check_storage([alias])) == {"W051"}
