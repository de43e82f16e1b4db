"""What ails a database, read from the errors of real drivers."""

from __future__ import annotations

import sqlite3

import psycopg
import pymysql
import pytest
from django.db import IntegrityError, InterfaceError, OperationalError

from evermuse_outbox.delivery.context.database_errors import Trouble, one_line, trouble_of

CONFLICT, CONNECTION, NO_WRITES = Trouble.CONFLICT, Trouble.CONNECTION, Trouble.NO_WRITES


def wrapped(told, kind=OperationalError):
    """As Django raises what a driver raised."""
    error = kind(*told.args)
    error.__cause__ = told
    return error


@pytest.mark.parametrize(
    ("state", "trouble"),
    [
        ("40001", CONFLICT),
        ("40P01", CONFLICT),
        ("55P03", CONFLICT),
        ("57014", CONFLICT),
        ("08006", CONNECTION),
        ("25P03", CONNECTION),
        ("53300", CONNECTION),
        ("57P01", CONNECTION),
        ("57P03", CONNECTION),
        ("57P05", CONNECTION),
        ("25006", NO_WRITES),
        ("53100", NO_WRITES),
        ("23505", None),  # unique_violation
        ("25P02", None),  # in_failed_sql_transaction: something else failed before
        ("42P01", None),  # undefined_table
    ],
)
def test_postgresql_tells_by_sqlstate(state, trouble):
    assert trouble_of(wrapped(psycopg.errors.lookup(state)("…"))) is trouble


@pytest.mark.parametrize(
    "told", [psycopg.OperationalError("connection refused"), psycopg.errors.ConnectionTimeout("…")]
)
def test_an_error_that_no_server_has_sent_is_about_the_way_to_it(told):
    assert trouble_of(wrapped(told)) is CONNECTION
    assert (
        trouble_of(wrapped(psycopg.InterfaceError("the connection is closed"), InterfaceError)) is CONNECTION
    )
    assert trouble_of(wrapped(psycopg.DataError("a NUL in a text"))) is None


def test_psycopg2_has_another_name_for_it():
    class Deadlock(Exception):
        pgcode = "40P01"

    assert trouble_of(wrapped(Deadlock())) is CONFLICT


@pytest.mark.parametrize(
    ("number", "trouble"),
    [
        (1020, CONFLICT),
        (1205, CONFLICT),
        (1213, CONFLICT),
        (1969, CONFLICT),
        (1040, CONNECTION),
        (1053, CONNECTION),
        (1927, CONNECTION),
        (2003, CONNECTION),
        (2006, CONNECTION),
        (2013, CONNECTION),
        (1021, NO_WRITES),
        (1114, NO_WRITES),
        (1290, NO_WRITES),
        (1792, NO_WRITES),
        (1836, NO_WRITES),
        (1062, None),  # ER_DUP_ENTRY
        (1146, None),  # ER_NO_SUCH_TABLE
    ],
)
def test_mariadb_tells_by_number(number, trouble):
    told = pymysql.err.OperationalError(number, "…")
    assert trouble_of(wrapped(told)) is trouble
    told.sqlstate = "HY000"  # as newer versions of the driver have it
    assert trouble_of(wrapped(told)) is trouble


def test_pymysql_on_a_connection_that_is_closed():
    assert trouble_of(wrapped(pymysql.err.InterfaceError(0, ""), InterfaceError)) is CONNECTION


@pytest.mark.parametrize(
    ("name", "trouble"),
    [
        ("SQLITE_BUSY", CONFLICT),
        ("SQLITE_BUSY_SNAPSHOT", CONFLICT),
        ("SQLITE_LOCKED_SHAREDCACHE", CONFLICT),
        ("SQLITE_CANTOPEN", CONNECTION),
        ("SQLITE_FULL", NO_WRITES),
        ("SQLITE_IOERR_WRITE", NO_WRITES),
        ("SQLITE_READONLY_DBMOVED", NO_WRITES),
        ("SQLITE_CONSTRAINT_UNIQUE", None),
        ("SQLITE_ERROR", None),
    ],
)
def test_sqlite_tells_by_name(name, trouble):
    told = sqlite3.OperationalError("…")
    told.sqlite_errorname = name
    assert trouble_of(wrapped(told)) is trouble


@pytest.mark.parametrize(
    "error", [IntegrityError("…"), OperationalError(), sqlite3.ProgrammingError("closed")]
)
def test_what_is_not_known_is_no_trouble_of_the_database(error):
    assert trouble_of(error) is None


def test_a_log_has_one_line_for_it():
    assert one_line(OperationalError("the connection is lost\n\tThis probably means …\n")) == (
        "the connection is lost This probably means …"
    )
    assert one_line(OperationalError()) == "OperationalError"
