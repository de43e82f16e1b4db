"""What ails a database, read from the errors of real drivers."""

from __future__ import annotations

import sqlite3

import psycopg
import pymysql
import pytest
from django.db import IntegrityError, InterfaceError, OperationalError

from evermuse_outbox.delivery.context import (
    DatabaseErrorKind,
    classify_database_error,
    summarise_error,
)

CONFLICT, CONNECTION, READ_ONLY = (
    DatabaseErrorKind.CONFLICT,
    DatabaseErrorKind.CONNECTION,
    DatabaseErrorKind.READ_ONLY,
)


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
        ("25006", READ_ONLY),
        ("53100", READ_ONLY),
        ("23505", None),  # unique_violation
        ("25P02", None),  # in_failed_sql_transaction: something else failed before
        ("42P01", None),  # undefined_table
    ],
)
def test_postgresql_tells_by_sqlstate(state, trouble):
    assert classify_database_error(wrapped(psycopg.errors.lookup(state)("…"))) is trouble


@pytest.mark.parametrize(
    "told", [psycopg.OperationalError("connection refused"), psycopg.errors.ConnectionTimeout("…")]
)
def test_an_error_that_no_server_has_sent_is_about_the_way_to_it(told):
    assert classify_database_error(wrapped(told)) is CONNECTION
    assert (
        classify_database_error(wrapped(psycopg.InterfaceError("the connection is closed"), InterfaceError))
        is CONNECTION
    )
    assert classify_database_error(wrapped(psycopg.DataError("a NUL in a text"))) is None


def test_psycopg2_has_another_name_for_it():
    class Deadlock(Exception):
        pgcode = "40P01"

    assert classify_database_error(wrapped(Deadlock())) is CONFLICT


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
        (1021, READ_ONLY),
        (1114, READ_ONLY),
        (1290, READ_ONLY),
        (1792, READ_ONLY),
        (1836, READ_ONLY),
        (1062, None),  # ER_DUP_ENTRY
        (1146, None),  # ER_NO_SUCH_TABLE
    ],
)
def test_mariadb_tells_by_number(number, trouble):
    told = pymysql.err.OperationalError(number, "…")
    assert classify_database_error(wrapped(told)) is trouble
    told.sqlstate = "HY000"  # as newer versions of the driver have it
    assert classify_database_error(wrapped(told)) is trouble


def test_pymysql_on_a_connection_that_is_closed():
    assert classify_database_error(wrapped(pymysql.err.InterfaceError(0, ""), InterfaceError)) is CONNECTION


@pytest.mark.parametrize(
    ("name", "trouble"),
    [
        ("SQLITE_BUSY", CONFLICT),
        ("SQLITE_BUSY_SNAPSHOT", CONFLICT),
        ("SQLITE_LOCKED_SHAREDCACHE", CONFLICT),
        ("SQLITE_CANTOPEN", CONNECTION),
        ("SQLITE_FULL", READ_ONLY),
        ("SQLITE_IOERR_WRITE", READ_ONLY),
        ("SQLITE_READONLY_DBMOVED", READ_ONLY),
        ("SQLITE_CONSTRAINT_UNIQUE", None),
        ("SQLITE_ERROR", None),
    ],
)
def test_sqlite_tells_by_name(name, trouble):
    told = sqlite3.OperationalError("…")
    told.sqlite_errorname = name
    assert classify_database_error(wrapped(told)) is trouble


@pytest.mark.parametrize(
    "error", [IntegrityError("…"), OperationalError(), sqlite3.ProgrammingError("closed")]
)
def test_what_is_not_known_is_no_trouble_of_the_database(error):
    assert classify_database_error(error) is None


def test_a_log_has_one_line_for_it():
    assert summarise_error(OperationalError("the connection is lost\n\tThis probably means …\n")) == (
        "the connection is lost This probably means …"
    )
    assert summarise_error(OperationalError()) == "OperationalError"
