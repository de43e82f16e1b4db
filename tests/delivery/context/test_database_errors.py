"""The kind of a database error, read from the errors of real drivers."""

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


def wrap(driver_error, error_class=OperationalError):
    """Return the error that Django raises for a driver's error."""
    error = error_class(*driver_error.args)
    error.__cause__ = driver_error
    return error


@pytest.mark.parametrize(
    ("state", "kind"),
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
        ("25P02", None),  # in_failed_sql_transaction: an earlier statement failed
        ("42P01", DatabaseErrorKind.NO_TABLES),  # undefined_table
    ],
)
def test_postgresql_errors_are_classified_by_sqlstate(state, kind):
    assert classify_database_error(wrap(psycopg.errors.lookup(state)("…"))) is kind


@pytest.mark.parametrize(
    "driver_error", [psycopg.OperationalError("connection refused"), psycopg.errors.ConnectionTimeout("…")]
)
def test_an_error_that_no_server_has_sent_is_about_the_connection(driver_error):
    assert classify_database_error(wrap(driver_error)) is CONNECTION
    assert (
        classify_database_error(wrap(psycopg.InterfaceError("the connection is closed"), InterfaceError))
        is CONNECTION
    )
    assert classify_database_error(wrap(psycopg.DataError("a NUL in a text"))) is None


def test_psycopg2_stores_the_sqlstate_in_another_attribute():
    class Deadlock(Exception):
        pgcode = "40P01"

    assert classify_database_error(wrap(Deadlock())) is CONFLICT


@pytest.mark.parametrize(
    ("number", "kind"),
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
        (1146, DatabaseErrorKind.NO_TABLES),  # ER_NO_SUCH_TABLE
    ],
)
def test_mariadb_errors_are_classified_by_number(number, kind):
    driver_error = pymysql.err.OperationalError(number, "…")
    assert classify_database_error(wrap(driver_error)) is kind
    driver_error.sqlstate = "HY000"  # set by newer versions of the driver
    assert classify_database_error(wrap(driver_error)) is kind


def test_an_error_of_pymysql_on_a_closed_connection_is_about_the_connection():
    assert classify_database_error(wrap(pymysql.err.InterfaceError(0, ""), InterfaceError)) is CONNECTION


@pytest.mark.parametrize(
    ("name", "kind"),
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
def test_sqlite_errors_are_classified_by_name(name, kind):
    driver_error = sqlite3.OperationalError("…")
    driver_error.sqlite_errorname = name
    assert classify_database_error(wrap(driver_error)) is kind


@pytest.mark.parametrize(
    "error", [IntegrityError("…"), OperationalError(), sqlite3.ProgrammingError("closed")]
)
def test_an_unknown_error_has_no_kind(error):
    assert classify_database_error(error) is None


class Coded(Exception):
    sqlstate = "40P01"


@pytest.mark.parametrize(
    ("cause", "summary"),
    [
        (
            Coded('deadlock on "payload"\nDETAIL:  Key (a)=(payload)'),
            "OperationalError (40P01): deadlock on",
        ),
        (Coded("deadlock DETAIL:  Key (a)=(payload)"), "OperationalError (40P01): deadlock"),
        (Coded("lost 'it''s payload' and 'payload"), "OperationalError (40P01): lost"),
        (Exception(1213, "Deadlock found"), "OperationalError (1213): Deadlock found"),
        (Exception(1062, "Duplicate entry 'payload' for key"), "OperationalError (1062)"),
        (Exception("no kind, so payload is possible"), "OperationalError"),
    ],
)
def test_a_summary_contains_no_value_of_a_row(cause, summary):
    error = OperationalError(*cause.args)
    error.__cause__ = cause
    assert summarise_error(error) == summary
