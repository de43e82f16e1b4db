"""Indexes are built online, by one process at a time, and an interrupted build is begun again."""

from __future__ import annotations

import json
import threading
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connections, models, transaction

from evermuse_outbox import indexing
from evermuse_outbox.indexing.build import LOCK
from evermuse_outbox.indexing.conditional import CONDITIONAL_INDEXES, ConditionalIndex
from evermuse_outbox.models import OutboxRecord
from tests.rows import record_in

pytestmark = pytest.mark.commits

NAME, TABLE = "evermuse_record_identity", "evermuse_outbox_outboxrecord"


def execute(alias, sql):
    with connections[alias].cursor() as cursor:
        cursor.execute(sql)


def vendor(alias):
    return connections[alias].vendor


def drop(alias, name=NAME):
    execute(alias, f"DROP INDEX {name}" + (f" ON {TABLE}" if vendor(alias) == "mysql" else ""))


def run(alias, *options):
    out = StringIO()
    call_command("outbox_indexes", *options, database=alias, stdout=out)
    return out.getvalue()


def steps(alias):
    return [(step.kind, step.name, step.problem) for step in indexing.find_steps(alias)]


@pytest.fixture
def other_session(alias):
    """Return a function that executes SQL in a transaction of another session, which ends with the test."""
    is_done, sessions = threading.Event(), []

    def begin(sql):
        is_begun = threading.Event()

        def work():
            try:
                with transaction.atomic(using=alias):
                    execute(alias, sql)
                    is_begun.set()
                    assert is_done.wait(60)
                    if vendor(alias) == "mysql":  # at a disconnect, it would do so a moment later
                        execute(alias, "SELECT RELEASE_ALL_LOCKS()")
            finally:
                connections[alias].close()

        sessions.append(threading.Thread(target=work))
        sessions[-1].start()
        assert is_begun.wait(60)

    def end():
        is_done.set()
        for session in sessions:
            session.join(60)

    begin.end = end
    yield begin
    end()


def test_nothing_is_left_to_do_after_migrate(alias):
    assert run(alias) == "Nothing is left to do.\n"
    assert run(alias, "--check") == "Nothing is left to do.\n"
    assert json.loads(run(alias, "--json")) == {"done": []}


def test_a_missing_index_is_built_once(alias):
    drop(alias)
    assert steps(alias) == [("index", NAME, "missing")]
    assert f"{NAME} of {TABLE}: missing" in run(alias, "--list")
    assert "is ready after" in run(alias)
    assert steps(alias) == []
    assert run(alias) == "Nothing is left to do.\n"


def test_a_dry_run_prints_the_statements_of_an_online_build(alias):
    drop(alias)
    try:
        printed = run(alias, "--dry-run")
        online = {
            "postgresql": f'CREATE INDEX CONCURRENTLY "{NAME}"',
            "mysql": "ALGORITHM=NOCOPY LOCK=NONE;",
            "sqlite": f'CREATE INDEX "{NAME}"',
        }
        assert online[vendor(alias)] in printed
        assert steps(alias) == [("index", NAME, "missing")]
        with pytest.raises(SystemExit) as exit_:
            run(alias, "--check")
        assert exit_.value.code == 3
    finally:
        run(alias)


def test_a_build_that_waits_too_long_for_a_lock_is_begun_again(alias, other_session):
    if vendor(alias) == "sqlite":
        pytest.skip("SQLite has one writer, so it has no such wait")
    record_in(alias, "pending")
    drop(alias)
    other_session(f"UPDATE {TABLE} SET size = size + 1")
    try:
        with pytest.raises(CommandError, match="Start this command again to continue"):
            run(alias, "--lock-timeout", "1")
        leftover = "not valid" if vendor(alias) == "postgresql" else "missing"
        assert steps(alias) == [("index", NAME, leftover)]
    finally:
        other_session.end()
        run(alias)
    assert steps(alias) == []


def test_a_second_process_does_not_build(alias, other_session):
    lock = {
        "postgresql": f"SELECT pg_advisory_xact_lock({LOCK})",
        "mysql": "SELECT GET_LOCK(CONCAT('evermuse_outbox_indexes.', LEFT(DATABASE(), 30)), 0)",
    }
    if vendor(alias) not in lock:
        pytest.skip("SQLite locks itself for each statement")
    drop(alias)
    other_session(lock[vendor(alias)])
    try:
        with pytest.raises(CommandError, match="another process is building") as error:
            run(alias)
        assert error.value.returncode == 3
        assert steps(alias) == [("index", NAME, "missing")]
    finally:
        other_session.end()
        run(alias)


def test_the_session_keeps_its_settings(alias):
    if vendor(alias) == "sqlite":
        pytest.skip("SQLite has no such settings")
    name = {"postgresql": "current_setting('lock_timeout')", "mysql": "@@SESSION.lock_wait_timeout"}
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SELECT {name[vendor(alias)]}")
        before = cursor.fetchone()
        run(alias)
        cursor.execute(f"SELECT {name[vendor(alias)]}")
        assert cursor.fetchone() == before


def test_a_transaction_is_refused(alias):
    with transaction.atomic(using=alias), pytest.raises(CommandError, match="inside a transaction"):
        run(alias)


def test_a_constraint_that_was_added_without_a_check_is_validated(alias):
    if vendor(alias) != "postgresql":
        pytest.skip("only PostgreSQL adds a constraint without a check of older rows")
    name = "evermuse_record_superseded_by"
    constraint = next(each for each in OutboxRecord._meta.constraints if each.name == name)
    editor = connections[alias].SchemaEditorClass(connections[alias], collect_sql=True)
    execute(alias, f"ALTER TABLE {TABLE} DROP CONSTRAINT {name}")
    execute(alias, f"{constraint.create_sql(OutboxRecord, editor)} NOT VALID")
    assert steps(alias) == [("constraint", name, "not valid")]
    assert f"validates the constraint {name}" in run(alias)
    assert steps(alias) == []


def test_a_conditional_index_is_built_when_its_feature_is_used(alias, monkeypatch):
    wanted = []
    index = models.Index(name="evermuse_record_size", fields=["size"])
    entry = ConditionalIndex("OutboxRecord", index, lambda using: using in wanted, "sizes are searched")
    monkeypatch.setattr(
        "evermuse_outbox.indexing.expected.CONDITIONAL_INDEXES", [*CONDITIONAL_INDEXES, entry]
    )
    assert run(alias) == "Nothing is left to do.\n"
    assert "not needed; it is built if sizes are searched" in run(alias, "--list")
    wanted.append(alias)
    assert steps(alias) == [("index", "evermuse_record_size", "missing")]
    try:
        run(alias)
        assert "evermuse_record_size of evermuse_outbox_outboxrecord: built" in run(alias, "--list")
    finally:
        drop(alias, "evermuse_record_size")


def test_the_lock_timeout_is_an_error_that_the_caller_sees(alias, other_session):
    if vendor(alias) == "sqlite":
        pytest.skip("SQLite has one writer, so it has no such wait")
    record_in(alias, "pending")
    drop(alias)
    other_session(f"UPDATE {TABLE} SET size = size + 1")
    try:
        with pytest.raises(OperationalError):
            indexing.build(alias, lambda step: None, lock_timeout=1)
    finally:
        other_session.end()
        run(alias)


def test_a_database_without_tables_lacks_no_index(alias, monkeypatch):
    monkeypatch.setattr(connections[alias].introspection, "table_names", lambda cursor: ["host_table"])
    assert indexing.find_steps(alias) == []


def test_before_migrate_nothing_is_expected_of_missing_tables(alias, monkeypatch):
    """The check runs before ``migrate``, when the tables that a condition reads may not exist."""
    index = models.Index(name="evermuse_record_size", fields=["size"])
    entry = ConditionalIndex(
        "OutboxRecord", index, lambda using: pytest.fail("it reads"), "sizes are searched"
    )
    monkeypatch.setattr("evermuse_outbox.indexing.expected.CONDITIONAL_INDEXES", [entry])
    execute(alias, "ALTER TABLE evermuse_outbox_outboxrule RENAME TO hidden")
    try:
        assert indexing.unbuilt_indexes(alias) == []
    finally:
        execute(alias, "ALTER TABLE hidden RENAME TO evermuse_outbox_outboxrule")
