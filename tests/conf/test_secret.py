"""Secrets: no message, error report, copy or pickle shows an API key."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import traceback
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from evermuse_outbox import conf
from evermuse_outbox.conf import Secret
from evermuse_outbox.foreign_text import clean_text
from tests.conf.errors import KEY, errors_in

CONF = str(Path(conf.__file__).parent)


def test_only_reveal_shows_a_secret():
    secret = Secret(KEY)
    shown = f"{secret} {secret!r} {secret!s} {[secret]} {secret:}"
    assert KEY not in shown
    assert secret.reveal() == KEY
    assert (repr(secret), repr(Secret(""))) == ("Secret(…)", "Secret(empty)")


def test_secrets_compare_and_hash_by_value():
    assert Secret(KEY) == Secret(KEY) != Secret("other")
    assert Secret(KEY) != KEY
    assert len({Secret(KEY), Secret(KEY)}) == 1
    assert bool(Secret(KEY))
    assert not Secret("")


def test_the_typed_settings_show_no_key(typed):
    settings = typed(API_KEY=KEY, WORKSPACES={"eu": {"API_KEY": f"{KEY}_eu"}})
    for shown in (repr(settings), str(dataclasses.asdict(settings)), str(copy.deepcopy(settings))):
        assert "Secret(…)" in shown
        assert KEY not in shown


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_cannot_be_pickled(protocol, typed):
    with pytest.raises(TypeError, match="secret"):
        pickle.dumps(typed(API_KEY=KEY), protocol=protocol)


@pytest.mark.parametrize("wrong", [{"LINGER": -1}, {"API_KEYS": KEY}, {"API_URL": KEY}, {"CONTRACT": KEY}])
def test_no_error_report_shows_a_key(typed, wrong):
    with pytest.raises(ImproperlyConfigured) as caught:
        typed(**{"API_KEY": KEY} | wrong)
    frames = [entry for entry in traceback.walk_tb(caught.tb) if entry[0].f_code.co_filename.startswith(CONF)]
    report = traceback.StackSummary.extract(iter(frames), capture_locals=True)
    assert frames
    assert KEY not in "".join(report.format())
    assert KEY not in str(caught.value)


REDIS_URL = "redis://user:hunter2%2Fsecret@127.0.0.1:6379/0"


def test_the_password_of_redis_is_in_no_repr(typed):
    from evermuse_outbox.delivery.context import open_redis

    settings = typed(REDIS_URL=REDIS_URL)
    client = open_redis(settings)
    pool = client.connection_pool
    connection = pool.make_connection()
    shown = repr((settings, client, pool, pool.connection_kwargs, connection, vars(connection)))
    assert "hunter2" not in shown
    assert connection.credential_provider.get_credentials() == ("user", "hunter2/secret")


def test_a_password_in_the_query_of_a_redis_url_is_hidden(typed):
    from evermuse_outbox.delivery.context import open_redis

    client = open_redis(typed(REDIS_URL="redis://127.0.0.1/0?password=hunter2secret"))
    assert "hunter2" not in repr((client, client.connection_pool.connection_kwargs))
    assert "hunter2secret" not in clean_text("WRONGPASS hunter2secret")
    assert client.connection_pool.connection_kwargs["credential_provider"].get_credentials() == (
        "hunter2secret",
    )


@pytest.mark.parametrize("url", ["redis://h/0 ", "redis://h\n/0", "redis://h/\x00"])
def test_a_redis_url_has_no_white_space(url):
    assert "characters that a URL cannot contain" in errors_in(REDIS_URL=url)[0]
