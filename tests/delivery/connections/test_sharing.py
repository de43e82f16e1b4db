"""Sharing of connections: which thread takes one, which are never released, and when they are closed."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest
from django.db import DatabaseError, connections, transaction

from evermuse_outbox.delivery.connections import release_connections, share_connections, sharing
from evermuse_outbox.delivery.context import Clock, retry_on_database_error, statement_deadlines
from evermuse_outbox.models import OutboxWorkspace
from tests.delivery.connections.threads import call_in_thread, held

pytestmark = pytest.mark.commits


@pytest.fixture(autouse=True)
def only(outbox_settings, alias):
    outbox_settings(DATABASES=[alias])
    if sharing._is_in_memory(connections[alias]):
        pytest.skip("a database in memory has one connection")


@pytest.fixture
def is_worker():
    """Another thread shares its connections, so that the unused ones are not closed."""
    end = threading.Event()
    started = threading.Event()

    def run():
        with share_connections():
            started.set()
            end.wait(60)
        connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    started.wait(60)
    yield
    end.set()
    thread.join(60)


def use(alias):
    """Use the database and return the connection of the driver."""
    OutboxWorkspace.objects.using(alias).exists()
    return connections[alias].connection


def shared(alias):
    """Use the database in a thread that shares its connections, and return the one that it used."""
    with share_connections():
        return use(alias)


def unused(alias):
    return [idle.raw for idle in sharing._stacks[sharing.os.getpid()]._idle[alias]]


def is_open(raw, alias):
    try:
        cursor = raw.cursor()
        cursor.execute("SELECT 1")
        cursor.close()
    except Exception:
        return False
    return True


def test_the_next_thread_takes_the_connection(alias, is_worker):
    first = call_in_thread(shared, alias)
    assert unused(alias) == [first]
    assert call_in_thread(shared, alias) is first


def test_a_thread_that_waits_holds_none_and_takes_one_again(alias):
    def wait():
        with share_connections():
            first = use(alias)
            release_connections()
            assert held() == []
            assert use(alias) is first
            release_connections()

    call_in_thread(wait)


def test_the_last_thread_closes_the_unused_connections(alias):
    raw = call_in_thread(shared, alias)
    assert unused(alias) == []
    assert not is_open(raw, alias)


class Timers:
    """The timers of the connections that stay open, which fire on demand, and the monotonic clock."""

    def __init__(self):
        self.now, self.started = 100.0, []

    def create(self, seconds, function):
        return SimpleNamespace(start=lambda: self.started.append((seconds, function)))

    def fire(self):
        """Let the time of the oldest timer pass, and fire it."""
        seconds, function = self.started.pop(0)
        self.now += seconds
        function()


@pytest.fixture
def timers(monkeypatch):
    fake = Timers()
    monkeypatch.setattr(sharing.threading, "Timer", fake.create)
    monkeypatch.setattr(sharing, "time", SimpleNamespace(monotonic=lambda: fake.now))
    yield fake
    while fake.started:
        fake.fire()


def work(alias, count=1):
    """Use the database in so many threads of a worker at once. Return the connections of the driver."""
    together, raws = threading.Barrier(count), []

    def run():
        with share_connections(is_worker=True):
            raws.append(use(alias))
            together.wait(60)

    threads = [threading.Thread(target=call_in_thread, args=(run,)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return raws


def test_an_idle_worker_keeps_the_last_connection_for_a_moment(alias, timers):
    raws = work(alias, count=3)
    [kept] = unused(alias)
    assert [raw for raw in raws if is_open(raw, alias)] == [kept]
    timers.fire()
    assert unused(alias) == []
    assert not is_open(kept, alias)
    assert timers.started == []


def test_a_worker_that_is_busy_again_keeps_its_connection(alias, timers):
    first = work(alias)
    timers.now += 1.5
    assert work(alias) == first
    assert len(timers.started) == 1
    timers.now -= 1.5
    timers.fire()
    assert unused(alias) == first
    timers.fire()
    assert unused(alias) == []


def test_a_timer_closes_nothing_while_a_thread_works(alias, timers):
    first = work(alias)
    with share_connections(is_worker=True):
        timers.fire()
        assert unused(alias) == first


def test_threads_that_use_the_database_at_the_same_time_have_different_connections(alias, is_worker):
    both = threading.Barrier(2)
    raws = []

    def use_together():
        with share_connections():
            raws.append(use(alias))
            both.wait(60)

    threads = [threading.Thread(target=call_in_thread, args=(use_together,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(map(id, raws))) == 2
    assert len(unused(alias)) == 2


def test_an_open_transaction_keeps_its_connection(alias, is_worker):
    def wait():
        with share_connections(), transaction.atomic(using=alias):
            raw = use(alias)
            release_connections()
            assert connections[alias].connection is raw

    call_in_thread(wait)


def test_a_connection_that_was_open_before_stays_with_its_thread(alias, is_worker):
    def wait():
        raw = use(alias)
        with share_connections():
            release_connections()
            assert connections[alias].connection is raw
        assert connections[alias].connection is raw

    call_in_thread(wait)
    assert unused(alias) == []


def test_a_connection_outside_of_a_worker_stays_with_its_thread(alias):
    def wait():
        raw = use(alias)
        release_connections()
        assert connections[alias].connection is raw

    call_in_thread(wait)


def test_a_transaction_works_on_a_connection_of_another_thread(alias, is_worker):
    call_in_thread(shared, alias)

    def write():
        with share_connections():
            with transaction.atomic(using=alias):
                OutboxWorkspace.objects.using(alias).ensure_row("kept")
            with pytest.raises(ZeroDivisionError), transaction.atomic(using=alias):
                OutboxWorkspace.objects.using(alias).ensure_row("rolled back")
                raise ZeroDivisionError
            release_connections()
            assert use(alias)

    call_in_thread(write)
    assert [row.name for row in OutboxWorkspace.objects.using(alias)] == ["kept"]
    assert len(unused(alias)) == 1


def test_a_connection_that_was_lost_in_a_transaction_is_replaced_by_a_clean_one(alias, is_worker):
    """The wrapper of the thread was closed inside of a transaction, so it still has the marks of it."""
    raw = call_in_thread(shared, alias)

    def lose():
        with share_connections():
            with pytest.raises(DatabaseError), transaction.atomic(using=alias):
                OutboxWorkspace.objects.using(alias).ensure_row("lost")
                connections[alias].close()
                use(alias)
            with transaction.atomic(using=alias):
                OutboxWorkspace.objects.using(alias).ensure_row("written")
            assert connections[alias].autocommit

    call_in_thread(lose)
    assert [row.name for row in OutboxWorkspace.objects.using(alias)] == ["written"]
    assert raw not in unused(alias)


def test_connections_that_the_server_closed_do_not_come_back(alias, is_worker):
    if connections[alias].vendor == "sqlite":
        pytest.skip("SQLite has no server")
    both, lost = threading.Barrier(3), threading.Event()
    raws = []

    def use_together():
        with share_connections():
            raws.append(use(alias))
            both.wait(60)
            lost.wait(60)

    threads = [threading.Thread(target=call_in_thread, args=(use_together,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    both.wait(60)
    lost.set()
    for thread in threads:
        thread.join(60)
    assert len(unused(alias)) == 2
    for raw in unused(alias):
        _end_session(alias, raw)

    def work():
        with share_connections():
            retry_on_database_error(alias, Clock.of(alias), use, alias)
            return connections[alias].connection

    used = call_in_thread(work)
    assert unused(alias) == [used]
    assert used not in raws


def _end_session(alias, raw):
    with connections[alias].cursor() as cursor:
        if connections[alias].vendor == "postgresql":
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [raw.info.backend_pid])
        else:
            cursor.execute(f"KILL {raw.thread_id()}")


def test_an_unused_connection_is_closed_after_a_while(alias, is_worker, monkeypatch):
    first = call_in_thread(shared, alias)

    def use_new():
        with share_connections():
            raw = use(alias)
            connections[alias].connection = None
            second = use(alias)
            sharing._stacks[sharing.os.getpid()].push(alias, raw, None)
            monkeypatch.setattr(sharing, "MAX_IDLE", -1.0)
            return second

    second = call_in_thread(use_new)
    monkeypatch.setattr(sharing, "MAX_IDLE", 10.0)
    assert not is_open(first, alias)
    assert not is_open(second, alias)
    assert unused(alias) == []


@pytest.mark.parametrize(("max_age", "is_reused"), [(0, True), (None, True), (1e-6, False), (60, True)])
def test_the_maximum_age_of_a_connection_is_kept(alias, is_worker, monkeypatch, max_age, is_reused):
    monkeypatch.setitem(connections.settings[alias], "CONN_MAX_AGE", max_age)
    first = call_in_thread(shared, alias)
    time.sleep(1e-3)
    assert (call_in_thread(shared, alias) is first) == is_reused


def test_health_checks_find_a_lost_connection_before_it_is_used(alias, is_worker, monkeypatch):
    if connections[alias].vendor == "sqlite":
        pytest.skip("SQLite has no server")
    monkeypatch.setitem(connections.settings[alias], "CONN_HEALTH_CHECKS", True)
    first = call_in_thread(shared, alias)
    _end_session(alias, first)
    assert call_in_thread(shared, alias) is not first


def test_a_deadline_of_one_thread_does_not_reach_the_next(alias, is_worker):
    def with_deadline():
        with statement_deadlines(), share_connections():
            first = use(alias)
            release_connections()
            assert use(alias) is first
            return first, len(connections[alias].execute_wrappers)

    first, wrappers = call_in_thread(with_deadline)

    def without_deadline():
        with share_connections():
            return use(alias), len(connections[alias].execute_wrappers)

    assert call_in_thread(without_deadline) == (first, 0)
    assert wrappers == (0 if connections[alias].vendor == "sqlite" else 1)


@pytest.fixture
def pool(alias, monkeypatch):
    """Django's pool with two connections, for the threads of this test."""
    if connections[alias].vendor != "postgresql":
        pytest.skip("Django has a pool for PostgreSQL only")
    pytest.importorskip("psycopg_pool")
    options = connections.settings[alias]["OPTIONS"] | {"pool": {"min_size": 0, "max_size": 2, "timeout": 5}}
    monkeypatch.setitem(connections.settings[alias], "OPTIONS", options)
    yield call_in_thread(lambda: connections[alias].pool)
    call_in_thread(lambda: connections[alias].close_pool())


def test_more_threads_than_connections_wait_at_the_same_time(alias, pool):
    """Each of ten threads has used the database before all of them wait together."""
    everyone = threading.Barrier(10)

    def wait():
        with share_connections():
            use(alias)
            release_connections()
            everyone.wait(60)
            use(alias)

    errors = []

    def run():
        try:
            call_in_thread(wait)
        except Exception as error:
            errors.append(error)
            everyone.abort()

    threads = [threading.Thread(target=run) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert pool.get_stats()["pool_size"] <= 2
    assert unused(alias) == []
