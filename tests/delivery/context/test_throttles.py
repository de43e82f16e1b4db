"""The throttle of a workspace: Redis or the database, and an error if the database does not answer."""

from __future__ import annotations

import uuid
from functools import partial

import pytest
from django.db import OperationalError

from evermuse_outbox.conf import get_settings
from evermuse_outbox.delivery.context import DatabaseThrottle, prepare_throttles, throttles
from evermuse_outbox.delivery.context.throttles import PREPARE_INTERVAL, open_throttle
from evermuse_outbox.models import OutboxThrottle
from evermuse_outbox.ratelimit import Limit, RedisThrottle, ThrottleUnavailable
from tests.services import HOW_TO_START, REDIS_URL


def open_for(workspace="default"):
    """Return the throttle of a workspace, by the settings."""
    settings = get_settings()
    return open_throttle(settings.workspace(workspace), settings)


def test_the_redis_of_the_settings_holds_the_rate_limit(outbox_settings):
    outbox_settings(REDIS_URL="redis://127.0.0.1:1/0")
    assert isinstance(open_for(), RedisThrottle)


@pytest.mark.django_db
def test_without_redis_the_first_database_holds_the_rate_limit(outbox_settings):
    outbox_settings(REDIS_URL=None)
    throttle = open_for()
    assert isinstance(throttle, DatabaseThrottle)
    assert throttle.reserve(0).taken
    assert OutboxThrottle.objects.using(get_settings().databases[0]).count() == 1


def test_workspaces_with_one_key_share_one_state(outbox_settings):
    outbox_settings(
        REDIS_URL="redis://127.0.0.1:1/0",
        WORKSPACES={"a": {"API_KEY": "em_sk_1"}, "b": {"API_KEY": "em_sk_1"}, "c": {"API_KEY": "em_sk_2"}},
    )
    a, b, c = map(open_for, "abc")
    assert a.keys == b.keys != c.keys


@pytest.mark.skipif(not REDIS_URL, reason=f"no redis: {HOW_TO_START['redis']}")
def test_maintenance_gives_each_new_key_a_state_before_its_first_record(outbox_settings):
    key = f"em_sk_{uuid.uuid4().hex}"
    outbox_settings(REDIS_URL=REDIS_URL, WORKSPACES={"new": {"API_KEY": key}, "none": {}})
    throttle = open_for("new")
    redis = throttle._scripts["reserve"].registered_client
    assert not redis.exists(*throttle.keys)
    prepare_throttles(get_settings(), 0)
    assert redis.hexists(throttle.keys[0], "next_slot_at")

    redis.delete(*throttle.keys)
    prepare_throttles(get_settings(), PREPARE_INTERVAL - 1)
    assert not redis.exists(*throttle.keys), "each process looks once in an interval"
    prepare_throttles(get_settings(), PREPARE_INTERVAL)
    assert redis.hexists(throttle.keys[0], "next_slot_at")
    redis.delete(*throttle.keys)


def test_a_maintenance_reads_a_bounded_number_of_keys(outbox_settings, monkeypatch):
    read = []
    monkeypatch.setattr(throttles, "open_throttle", lambda workspace, _: UnblockedThrottle())
    monkeypatch.setattr(throttles, "MAX_PREPARED", 2)
    keys = {name: {"API_KEY": partial(read_key, read, name)} for name in ("default", "a", "b")}
    outbox_settings(REDIS_URL="redis://127.0.0.1:1/0", WORKSPACES=keys)
    for _ in range(3):
        prepare_throttles(get_settings(), 0)
        read.append("|")
    assert read == ["default", "a", "|", "b", "|", "|"]


class UnblockedThrottle:
    """A throttle whose next slot is free."""

    def wait(self):
        return 0.0


def read_key(read, name):
    """Return a key, and record the name of its workspace."""
    read.append(name)
    return "em_sk_sandbox"


def test_maintenance_goes_on_if_redis_does_not_answer(outbox_settings, monkeypatch):
    read = []
    monkeypatch.setattr(throttles, "MAX_PREPARED", 2)
    keys = {name: {"API_KEY": partial(read_key, read, name)} for name in ("default", "a", "b")}
    outbox_settings(REDIS_URL="redis://127.0.0.1:1/0", WORKSPACES=keys)
    for _ in range(3):
        prepare_throttles(get_settings(), 0)
    assert read == ["default"], "the error delays one maintenance only"


def test_a_database_that_does_not_answer_gives_no_permit(alias, monkeypatch):
    def raise_error(*_):
        raise OperationalError("server has gone away")

    throttle = DatabaseThrottle(alias, "scope", Limit.from_rate(10))
    monkeypatch.setattr(type(OutboxThrottle.objects.all()), "_lock_state", raise_error)
    with pytest.raises(ThrottleUnavailable, match="database holds the rate limit"):
        throttle.release("permit", is_comparable=True)
