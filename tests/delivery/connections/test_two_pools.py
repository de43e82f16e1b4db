"""Two databases with a pool each: no two threads wait for the pools of each other."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections

from evermuse_outbox.delivery.connections import share_connections
from evermuse_outbox.delivery.context import Clock, retry_on_database_error
from tests.delivery.connections.threads import call_in_thread
from tests.e2e.test_workers import needs

NAMES = ("first", "second")


@pytest.fixture
def two_pools(django_db_blocker, monkeypatch, outbox_settings):
    """Two databases whose pools have one connection. Nothing is written to them."""
    pytest.importorskip("psycopg_pool")
    server = connections.settings["postgres"]
    options = server["OPTIONS"] | {"pool": {"min_size": 0, "max_size": 1, "timeout": 5}}
    for name in NAMES:
        monkeypatch.setitem(connections.settings, name, server | {"NAME": "postgres", "OPTIONS": options})
    outbox_settings(DATABASES=list(NAMES))
    with django_db_blocker.unblock():
        yield
        for name in NAMES:
            call_in_thread(lambda name=name: connections[name].close_pool())


def use(name):
    with connections[name].cursor() as cursor:
        cursor.execute("SELECT 1")


@pytest.mark.parametrize("service", [pytest.param("postgres", marks=needs("postgres"))])
def test_two_threads_do_not_wait_for_the_pools_of_each_other(two_pools, service):
    both = threading.Barrier(2)

    def use_both(first, second):
        with share_connections():
            retry_on_database_error(first, Clock.of(first), use, first)
            both.wait(60)
            retry_on_database_error(second, Clock.of(second), use, second)

    with ThreadPoolExecutor(2) as executor:
        orders = [NAMES, NAMES[::-1]]
        for done in [executor.submit(call_in_thread, use_both, *names) for names in orders]:
            done.result(60)
