"""Workspaces from a function of the host: when it is called, and what happens if it fails."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections, transaction

from evermuse_outbox import outbox
from evermuse_outbox.conf import (
    KeyFile,
    UnknownWorkspace,
    get_settings,
    get_static_settings,
    reload_workspaces,
)
from evermuse_outbox.conf.settings import _Loaded
from evermuse_outbox.conf.workspace import read_workspace
from evermuse_outbox.conf.workspace_function import (
    CALL_INTERVAL,
    MAX_UNKNOWN,
    UNKNOWN_INTERVAL,
    Reading,
    WorkspaceFunction,
)
from evermuse_outbox.foreign_text.secrets import mask_secrets
from evermuse_outbox.models import OutboxRecord
from tests.conf.errors import KEY, errors_in
from tests.conf.test_keys import Time, Vault
from tests.foreign_text.test_frames import frames_of
from tests.records import record

PATH = "EVERMUSE_OUTBOX['WORKSPACES']"


class Customers:
    """A function that returns ``rows``, or raises it if it is an exception, and counts its calls."""

    def __init__(self, **rows):
        self.rows = rows
        self.calls = 0

    def __call__(self):
        self.calls += 1
        if isinstance(self.rows, Exception):
            raise self.rows
        return self.rows

    def add(self, name, **keys):
        self.rows = {**self.rows, name: keys}


@pytest.fixture
def time():
    return Time()


def acme(number=1, **keys):
    return {"API_KEY": f"em_sk_acme_{number}"} | keys


def read_once():
    """A function that a dotted path names."""
    return {"by_path": acme()}


def test_the_function_is_called_at_the_first_use_and_then_once_in_an_interval(time):
    customers = Customers(acme=acme())
    function = WorkspaceFunction(customers, {}, time)
    assert customers.calls == 0
    assert list(function.read().workspaces) == ["acme"]
    time.now = CALL_INTERVAL - 0.1
    assert function.read() is function.read()
    assert customers.calls == 1
    time.now = CALL_INTERVAL
    function.read()
    assert customers.calls == 2


def test_workspaces_are_added_changed_and_removed(time):
    customers = Customers(acme=acme(), former=acme(2))
    function = WorkspaceFunction(customers, {"RATE_LIMIT": 4}, time)
    before = function.read().workspaces
    customers.rows = {"acme": acme(), "new": acme(3, RATE_LIMIT=2, CONTRACT="openapi")}
    time.now = CALL_INTERVAL
    after = function.read().workspaces
    assert list(after) == ["acme", "new"]
    assert after["acme"] is before["acme"], "what has not changed is not read again"
    assert (after["new"].api_key.reveal(), after["new"].rate_limit, after["new"].contract) == (
        "em_sk_acme_3",
        2.0,
        "openapi",
    )
    assert after["acme"].rate_limit == 4.0


def test_an_equal_result_gives_the_same_settings(settings):
    settings.EVERMUSE_OUTBOX = {"WORKSPACES": Customers(acme=acme())}
    first = get_settings()
    reload_workspaces()
    assert get_settings() is first


def test_the_top_level_is_the_default_workspace_if_it_has_a_key(time):
    named = Customers(acme=acme())
    assert list(WorkspaceFunction(named, {}, time).read().workspaces) == ["acme"]
    both = WorkspaceFunction(named, {"API_KEY": KEY}, time).read().workspaces
    assert set(both) == {"acme", "default"}
    named.add("default", CONTRACT="openapi")
    default = WorkspaceFunction(named, {"API_KEY": KEY}, time).read().workspaces["default"]
    assert (default.contract, default.api_key.reveal()) == ("openapi", KEY)
    assert WorkspaceFunction(Customers(), {}, time).read().workspaces == {}


def test_a_dotted_path_is_imported_at_the_first_use(settings):
    settings.EVERMUSE_OUTBOX = {"WORKSPACES": f"{__name__}.read_once"}
    assert list(get_settings().workspaces) == ["by_path"]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (ValueError(f"with {KEY}"), "the function failed: ValueError."),
        (["acme"], "the function returned list, not a dict."),
        (None, "the function returned NoneType, not a dict."),
    ],
)
def test_if_it_fails_the_last_result_remains_in_use(time, caplog, rows, reason):
    customers = Customers(acme=acme())
    function = WorkspaceFunction(customers, {}, time)
    function.read()
    customers.rows = rows
    for time.now in (CALL_INTERVAL, 2 * CALL_INTERVAL):
        reading = function.read()
    assert list(reading.workspaces) == ["acme"]
    assert reading.is_complete
    assert str(reading.problems[""]).startswith(f"{PATH}: {reason} The last result remains in use. ")
    assert KEY not in caplog.text
    assert [record.levelno for record in caplog.records] == [logging.WARNING], "once, until something changes"
    customers.rows = {"acme": acme()}
    time.now = 3 * CALL_INTERVAL
    assert function.read().problems == {}


def test_if_the_first_call_fails_nothing_is_known(settings):
    customers = Customers()
    customers.rows = DatabaseError("no such table")
    settings.EVERMUSE_OUTBOX = {"WORKSPACES": customers}
    typed = get_settings()
    assert (dict(typed.workspaces), typed.has_read_workspaces) == ({}, False)
    with pytest.raises(
        ImproperlyConfigured, match=r"the function failed: DatabaseError. Nothing is delivered."
    ):
        typed.workspace("acme")
    customers.rows = {"acme": acme()}
    reload_workspaces()
    assert get_settings().has_read_workspaces


def test_a_coroutine_is_no_result(time):
    async def customers():
        return {}

    problem = WorkspaceFunction(customers, {}, time).read().problems[""]
    assert "returned a coroutine, not a dict" in str(problem)
    assert "not async" in problem.hint


def test_a_wrong_workspace_affects_only_itself(time):
    customers = Customers(old=acme(1), other=acme(2))
    function = WorkspaceFunction(customers, {}, time)
    function.read()
    customers.rows = {
        "old": acme(1, RATE_LIMIT="ten"),
        "other": acme(4),
        "new": {"API_KEY": "two\nlines"},
        "em_sk": "em_sk_not_a_dict_but_a_key",
        7: acme(5),
    }
    time.now = CALL_INTERVAL
    reading = function.read()
    assert sorted(reading.workspaces) == ["old", "other"]
    assert reading.workspaces["old"].rate_limit == 10.0
    assert reading.workspaces["other"].api_key.reveal() == "em_sk_acme_4"
    old, new, text, number = (str(reading.problems[name]) for name in ("old", "new", "em_sk", 7))
    assert old.startswith(f"{PATH}()['old']['RATE_LIMIT']: 'ten' is not a number")
    assert "The last valid settings of the workspace remain in use." in old
    assert "Until this is corrected, the workspace is not used." in new
    assert "the value must be a dict." in text
    assert "not_a_dict" not in text
    assert "the name must be a string" in number
    time.now = 2 * CALL_INTERVAL
    assert function.read() is reading, "nothing has changed"


def test_a_wrong_default_workspace_is_not_replaced_by_its_part_at_the_top_level(time):
    function = WorkspaceFunction(Customers(default={"CONTRACT": "x"}), {"API_KEY": KEY}, time)
    assert dict(function.read().workspaces) == {}


def test_an_unknown_name_is_looked_for_at_once_but_once_a_second(time):
    customers = Customers(acme=acme())
    function = WorkspaceFunction(customers, {}, time)
    function.read()
    customers.add("new", API_KEY="em_sk_new")
    assert function.find("new").name == "new"
    assert "new" in function.read().workspaces
    assert function.find("other") is None
    assert function.find("other") is None
    assert customers.calls == 3
    customers.add("other", API_KEY="em_sk_other")
    time.now = UNKNOWN_INTERVAL
    assert function.find("other").name == "other"
    for number in range(MAX_UNKNOWN + 10):
        function.find(f"wrong {number}")
    assert len(function._unknown) <= MAX_UNKNOWN


def test_reload_forgets_the_unknown_names(settings):
    customers = Customers()
    settings.EVERMUSE_OUTBOX = {"WORKSPACES": customers}
    with pytest.raises(UnknownWorkspace, match=r"No workspace 'acme': the function of .* does not return it"):
        get_settings().workspace("acme")
    customers.add("acme", **acme())
    outbox.reload_workspaces()
    assert get_settings().workspace("acme").name == "acme"
    with pytest.raises(UnknownWorkspace):
        get_settings().workspace(["not hashable"])


def test_a_snapshot_of_the_settings_finds_a_new_workspace_too(settings):
    customers = Customers(acme=acme())
    settings.EVERMUSE_OUTBOX = {"WORKSPACES": customers}
    snapshot = get_settings()
    customers.add("new", **acme(2))
    assert snapshot.workspace("new").api_key.reveal() == "em_sk_acme_2"


def test_the_function_of_a_key_is_not_called_more_often(settings, time):
    vault = Vault(KEY)
    customers = Customers(acme={"API_KEY": lambda: vault()})
    function = WorkspaceFunction(customers, {}, time)
    assert function.read().workspaces["acme"].key_source.read().reveal() == KEY
    customers.rows = {"acme": {"API_KEY": lambda: vault()}}
    time.now = CALL_INTERVAL
    assert function.read().workspaces["acme"].key_source.read().reveal() == KEY
    assert vault.calls == 1
    customers.rows = {"acme": {"API_KEY": lambda: vault(), "API_URL": "https://other.example"}}
    time.now = 2 * CALL_INTERVAL
    assert function.read().workspaces["acme"].key_source.read().reveal() == KEY
    assert vault.calls == 2, "a key of another address is not used"
    customers.rows = {"acme": {"API_KEY_FILE": "/run/secrets/acme"}}
    time.now = 3 * CALL_INTERVAL
    assert isinstance(function.read().workspaces["acme"].key_source, KeyFile)


def test_returned_keys_are_hidden(time):
    customers = Customers(acme={"API_KEY": "secret-of-acme-1"})
    WorkspaceFunction(customers, {}, time).read()
    assert mask_secrets("secret-of-acme-1") == "…"


def test_no_local_variable_of_an_error_shows_a_key(time, monkeypatch):
    def fail(*_):
        raise AssertionError("as a defect of ours")

    monkeypatch.setattr("evermuse_outbox.conf.workspace_function.find_workspace_problems", fail)
    with pytest.raises(AssertionError) as caught:
        WorkspaceFunction(Customers(acme={"API_KEY": KEY, "PROXY": f"http://u:{KEY}@p:1"}), {}, time).read()
    shown = [text for path, _, text in frames_of(caught.value) if path != __file__]
    assert shown
    assert not any(KEY in text for text in shown)


def test_while_one_thread_calls_the_others_use_the_last_result(time):
    customers = Customers(acme=acme())
    function = WorkspaceFunction(customers, {}, time)
    function.read()
    begun, go_on = threading.Event(), threading.Event()

    def slow():
        begun.set()
        assert go_on.wait(30)
        return {"slow": acme(2)}

    function._function = slow
    time.now = CALL_INTERVAL
    thread = threading.Thread(target=function.read)
    thread.start()
    assert begun.wait(30)
    assert list(function.read().workspaces) == ["acme"]
    function._function = customers
    assert function.find("other") is None, "another call ends earlier, although it began later"
    customers.add("other", **acme(3))
    go_on.set()
    thread.join()
    assert list(function.latest.workspaces) == ["acme"], "so it knows more"


def test_a_thread_with_an_older_result_does_not_hide_the_latest(settings):
    settings.EVERMUSE_OUTBOX = {"WORKSPACES": Customers()}
    old, new = (Reading({name: read_workspace(name, acme())}, {}, True) for name in ("old", "new"))

    class Interrupted(_Loaded):
        """Another thread stores an older result directly after each assignment."""

        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            if function.read() is new:
                function.read = lambda: old
                self.present()
                function.read = lambda: new

    function = SimpleNamespace(read=lambda: None)
    loaded = Interrupted(replace(get_static_settings(), workspace_function=function))
    function.read = lambda: new
    loaded.present()
    assert list(loaded.present().workspaces) == ["new"]


def test_a_reload_during_a_call_is_not_lost(time):
    customers = Customers(acme=acme())
    function = WorkspaceFunction(lambda: (function.forget(), customers())[1], {}, time)
    function.read()
    function.read()
    assert customers.calls == 2


def test_a_function_that_uses_the_outbox_gets_the_last_result(settings):
    customers = Customers(acme=acme())

    def read():
        seen.append(list(get_settings().workspaces))
        with pytest.raises(UnknownWorkspace):
            get_settings().workspace("acme2")
        return customers()

    seen = []
    settings.EVERMUSE_OUTBOX = {"WORKSPACES": read}
    assert list(get_settings().workspaces) == ["acme"]
    assert seen == [[]]


def test_it_is_called_in_a_thread_if_an_event_loop_runs(settings):
    threads = []

    def read():
        threads.append(threading.current_thread())
        return {"acme": acme()}

    async def use():
        return outbox.validate(record(), workspace="acme")

    settings.EVERMUSE_OUTBOX = {"WORKSPACES": read}
    assert asyncio.run(use())
    assert threads != [threading.current_thread()]


def test_the_static_settings_do_not_call_it(settings):
    customers = Customers(acme=acme())
    settings.EVERMUSE_OUTBOX = {"WORKSPACES": customers, "API_KEY": KEY}
    assert list(get_static_settings().workspaces) == ["default"]
    assert customers.calls == 0


def test_errors_of_the_setting_itself():
    assert errors_in(WORKSPACES="shop.customers.read") == []
    assert errors_in(WORKSPACES=dict) == []
    (error,) = errors_in(WORKSPACES="not a path")
    assert "must be a dict from name to settings, or a function that returns it" in error


# --- within the host's transaction ------------------------------------------------------------------------


def test_enqueue_to_a_workspace_that_was_just_added(alias, outbox_settings):
    customers = Customers(acme=acme())
    outbox_settings(DATABASES=[alias], WORKSPACES=customers)
    outbox.enqueue(record(), using=alias, workspace="acme")
    customers.add("new", **acme(2))
    outbox.enqueue(record(), using=alias, workspace="new")
    with pytest.raises(ImproperlyConfigured, match="does not return it"):
        outbox.enqueue(record(), using=alias, workspace="unknown")
    assert set(OutboxRecord.objects.using(alias).values_list("workspace", flat=True)) == {"acme", "new"}


def test_enqueue_costs_no_query_while_the_result_is_in_use(alias, outbox_settings, django_assert_num_queries):
    def read():
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT 1")
        return {"acme": acme()}

    outbox_settings(DATABASES=[alias], WORKSPACES=read)
    with transaction.atomic(using=alias):
        outbox.enqueue(record(), using=alias, workspace="acme")
        with django_assert_num_queries(1, using=alias):
            outbox.enqueue(record(), using=alias, workspace="acme")


def test_a_failed_query_of_the_function_does_not_end_the_transaction_of_the_host(alias, outbox_settings):
    customers = Customers(acme=acme())

    def read():
        if customers.calls:
            with connections[alias].cursor() as cursor:
                cursor.execute("SELECT * FROM no_such_table")
        return customers()

    outbox_settings(DATABASES=[alias], WORKSPACES=read)
    get_settings()
    with transaction.atomic(using=alias):
        outbox.enqueue(record(), using=alias, workspace="acme")
        reload_workspaces()
        outbox.enqueue(record(), using=alias, workspace="acme")
        assert "the function failed" in str(get_settings().workspace_problems[""])
    assert OutboxRecord.objects.using(alias).count() == 2


def test_in_a_broken_transaction_the_function_is_not_called(alias, outbox_settings):
    customers = Customers(acme=acme())
    outbox_settings(DATABASES=[alias], WORKSPACES=customers)
    get_settings()
    with transaction.atomic(using=alias):
        transaction.set_rollback(True, using=alias)
        reload_workspaces()
        get_settings()
        with pytest.raises(UnknownWorkspace):
            get_settings().workspace("new")
    assert customers.calls == 1
    get_settings()
    assert customers.calls == 2
