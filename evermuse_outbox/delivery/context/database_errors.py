"""Classify a database error. Pure.

Django wraps the error of the driver, and the driver's error has a code. It is a SQLSTATE for PostgreSQL, a number for
MariaDB and MySQL, and a name for SQLite.

Without the classification, an outage of the database would look like a defect of the statement, and a run would fail.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from ... import foreign_text

MAX_SUMMARY = 300
"""Characters of the text of a database error in a log."""

_QUOTE = re.compile("[\"'`]")


class DatabaseErrorKind(Enum):
    """A cause that is not in the statement or its rows, so the same work succeeds later.

    The transaction has changed nothing, unless the connection was lost during its COMMIT.
    """

    CONFLICT = auto()
    """Another transaction interfered: deadlock, lock timeout, serialization failure. A repetition may succeed."""

    CONNECTION = auto()
    """Lost, shut down, refused, or too many connections. A new connection may succeed. If the connection was lost
    during a COMMIT, it is unknown whether the COMMIT took effect."""

    READ_ONLY = auto()
    """The database is read-only or its disk is full. Nothing can be written until that is repaired."""

    NO_TABLES = auto()
    """The tables or a column are not there, or not visible for this user: a migration was forgotten, or the connection
    has another schema or database. It lasts until an operator corrects that."""


SQLSTATES = {
    "08": DatabaseErrorKind.CONNECTION,
    "25006": DatabaseErrorKind.READ_ONLY,  # read_only_sql_transaction
    "25P03": DatabaseErrorKind.CONNECTION,  # idle_in_transaction_session_timeout
    "25P04": DatabaseErrorKind.CONNECTION,  # transaction_timeout
    "3F000": DatabaseErrorKind.NO_TABLES,  # invalid_schema_name
    "40": DatabaseErrorKind.CONFLICT,
    "42501": DatabaseErrorKind.NO_TABLES,  # insufficient_privilege
    "42703": DatabaseErrorKind.NO_TABLES,  # undefined_column
    "42P01": DatabaseErrorKind.NO_TABLES,  # undefined_table
    "53100": DatabaseErrorKind.READ_ONLY,  # disk_full
    "53200": DatabaseErrorKind.READ_ONLY,  # out_of_memory
    "53300": DatabaseErrorKind.CONNECTION,  # too_many_connections
    "55P03": DatabaseErrorKind.CONFLICT,  # lock_not_available
    "57014": DatabaseErrorKind.CONFLICT,  # query_canceled: statement timeout
    "57P": DatabaseErrorKind.CONNECTION,  # shutdown, crash, start-up, idle session timeout
    "58030": DatabaseErrorKind.READ_ONLY,  # io_error
}
"""Prefix of a SQLSTATE → kind. Source: PostgreSQL manual, appendix "Error Codes"."""

MYSQL_ERROR_NUMBERS = {
    DatabaseErrorKind.CONFLICT: {
        1020,  # ER_CHECKREAD: the row changed since it was read
        1180,  # ER_ERROR_DURING_COMMIT: another node of a cluster committed first, or rows were skipped
        1205,  # ER_LOCK_WAIT_TIMEOUT
        1213,  # ER_LOCK_DEADLOCK
        1317,  # ER_QUERY_INTERRUPTED
        1412,  # ER_TABLE_DEF_CHANGED
        1969,  # ER_STATEMENT_TIMEOUT of MariaDB
        3024,  # ER_QUERY_TIMEOUT of MySQL
        3572,  # ER_LOCK_NOWAIT of MySQL
    },
    DatabaseErrorKind.CONNECTION: {
        0,  # PyMySQL on a closed connection
        1040,  # ER_CON_COUNT_ERROR: too many
        1043,  # ER_HANDSHAKE_ERROR
        1047,  # ER_UNKNOWN_COM_ERROR: a cluster node is not ready
        1053,  # ER_SERVER_SHUTDOWN
        1077,  # ER_NORMAL_SHUTDOWN
        1079,  # ER_SHUTDOWN_COMPLETE
        1152,  # ER_ABORTING_CONNECTION
        1158,  # ER_NET_READ_ERROR
        1159,  # ER_NET_READ_INTERRUPTED
        1160,  # ER_NET_ERROR_ON_WRITE
        1161,  # ER_NET_WRITE_INTERRUPTED
        1203,  # ER_TOO_MANY_USER_CONNECTIONS
        1927,  # ER_CONNECTION_KILLED
        2002,  # CR_CONNECTION_ERROR
        2003,  # CR_CONN_HOST_ERROR
        2005,  # CR_UNKNOWN_HOST
        2006,  # CR_SERVER_GONE_ERROR
        2012,  # CR_SERVER_HANDSHAKE_ERR
        2013,  # CR_SERVER_LOST
        2014,  # CR_COMMANDS_OUT_OF_SYNC
        2027,  # CR_MALFORMED_PACKET
        2055,  # CR_SERVER_LOST_EXTENDED
        4031,  # ER_CLIENT_INTERACTION_TIMEOUT
    },
    DatabaseErrorKind.READ_ONLY: {
        3,  # EE_WRITE
        1021,  # ER_DISK_FULL
        1026,  # ER_ERROR_ON_WRITE
        1030,  # ER_GET_ERRNO of the storage engine, 28 for a full disk
        1114,  # ER_RECORD_FILE_FULL
        1290,  # ER_OPTION_PREVENTS_STATEMENT: read_only
        1792,  # ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION
        1836,  # ER_READ_ONLY_MODE
    },
    DatabaseErrorKind.NO_TABLES: {
        1044,  # ER_DBACCESS_DENIED_ERROR
        1049,  # ER_BAD_DB_ERROR: unknown database
        1054,  # ER_BAD_FIELD_ERROR: unknown column
        1142,  # ER_TABLEACCESS_DENIED_ERROR
        1146,  # ER_NO_SUCH_TABLE
    },
}
"""Error numbers of MariaDB and MySQL: the server uses 1000 and above, the client library 2000 and above."""

SQLITE_ERROR_NAMES = {
    "SQLITE_BUSY": DatabaseErrorKind.CONFLICT,
    "SQLITE_LOCKED": DatabaseErrorKind.CONFLICT,
    "SQLITE_CANTOPEN": DatabaseErrorKind.CONNECTION,
    "SQLITE_FULL": DatabaseErrorKind.READ_ONLY,
    "SQLITE_IOERR": DatabaseErrorKind.READ_ONLY,
    "SQLITE_READONLY": DatabaseErrorKind.READ_ONLY,
}
"""Primary result code of SQLite → kind. An extended code begins with its primary code."""

SQLITE_NO_TABLES = ("no such table", "no such column", "has no column named")
"""Texts of SQLite for a table or column that is missing. It has no code for that."""


def classify_database_error(error: BaseException) -> DatabaseErrorKind | None:
    """Return the kind of a Django database error; None if the statement or its rows are at fault."""
    cause = error.__cause__ or error
    number = cause.args[0] if cause.args else None
    if isinstance(number, int):  # PyMySQL has SQLSTATEs, too, but they are less precise
        return next((kind for kind, numbers in MYSQL_ERROR_NUMBERS.items() if number in numbers), None)
    if name := getattr(cause, "sqlite_errorname", ""):
        if any(text in str(cause) for text in SQLITE_NO_TABLES):
            return DatabaseErrorKind.NO_TABLES
        return _by_prefix(SQLITE_ERROR_NAMES, name)
    for attribute in ("sqlstate", "pgcode"):  # psycopg 3, psycopg 2
        if hasattr(cause, attribute):
            return _by_sqlstate(getattr(cause, attribute), cause)
    return None


def summarise_error(error: BaseException) -> str:
    """Return the class and code of a database error for a log, and the text of a transient one.

    A driver quotes the values of rows and parameters, behind ``DETAIL:`` or in later lines. They may be payload.
    So the text ends at the first quote, except for a lost connection, which concerns no row.
    """
    summary, kind = foreign_text.summarise_error(error), classify_database_error(error)
    text = _first_line(error)
    if kind is not DatabaseErrorKind.CONNECTION:
        text = _QUOTE.split(text)[0]
    return f"{summary}: {text.strip()}" if kind and text.strip() else summary


def _first_line(error: BaseException) -> str:
    has_number = len(error.args) == 2 and isinstance(error.args[0], int)  # PyMySQL
    text = foreign_text.clean_text(error.args[1] if has_number else error, MAX_SUMMARY, keep_lines=True)
    return text.strip().partition("\n")[0].partition("DETAIL:")[0]


def _by_sqlstate(sqlstate: str | None, cause: BaseException) -> DatabaseErrorKind | None:
    if sqlstate is not None:
        return _by_prefix(SQLSTATES, sqlstate)
    # Without a SQLSTATE the error comes from the driver: no server answered, or the connection is closed.
    class_names = {base.__name__ for base in type(cause).__mro__}
    return DatabaseErrorKind.CONNECTION if class_names & {"OperationalError", "InterfaceError"} else None


def _by_prefix(kinds: dict[str, DatabaseErrorKind], code: str) -> DatabaseErrorKind | None:
    return next((kind for prefix, kind in kinds.items() if code.startswith(prefix)), None)
