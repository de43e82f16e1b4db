"""What ails a database, from the error it raised: one closed type, decided here. Pure.

Django wraps what its drivers raise, and the codes stand on the driver's own error: SQLSTATE for
PostgreSQL, numbers for MariaDB and MySQL, names for SQLite.
"""

from __future__ import annotations

from enum import Enum, auto


class DatabaseErrorKind(Enum):
    """Trouble of the database, which no row is to blame for. The transaction has changed nothing."""

    CONFLICT = auto()
    """Others were in the way: deadlock, lock timeout, serialization failure. The same again may well work."""

    CONNECTION = auto()
    """Lost, shut down, refused, or there are too many. A new connection may be had. Where it was lost in
    a COMMIT, nobody knows whether that took place."""

    READ_ONLY = auto()
    """Read only or full: nothing is written until somebody or something has ended that."""


STATES = {
    "08": DatabaseErrorKind.CONNECTION,
    "25006": DatabaseErrorKind.READ_ONLY,  # read_only_sql_transaction
    "25P03": DatabaseErrorKind.CONNECTION,  # idle_in_transaction_session_timeout
    "25P04": DatabaseErrorKind.CONNECTION,  # transaction_timeout
    "40": DatabaseErrorKind.CONFLICT,
    "53100": DatabaseErrorKind.READ_ONLY,  # disk_full
    "53200": DatabaseErrorKind.READ_ONLY,  # out_of_memory
    "53300": DatabaseErrorKind.CONNECTION,  # too_many_connections
    "55P03": DatabaseErrorKind.CONFLICT,  # lock_not_available
    "57014": DatabaseErrorKind.CONFLICT,  # query_canceled: the statement waited for too long
    "57P": DatabaseErrorKind.CONNECTION,  # shutdown, crash, starting up, idle for too long
    "58030": DatabaseErrorKind.READ_ONLY,  # io_error
}
"""Beginnings of SQLSTATEs, PostgreSQL's appendix "Error Codes"."""

NUMBERS = {
    DatabaseErrorKind.CONFLICT: {
        1020,  # ER_CHECKREAD: changed since it was read
        1180,  # ER_ERROR_DURING_COMMIT: others were first, in a cluster or where locked rows are skipped
        1205,  # ER_LOCK_WAIT_TIMEOUT
        1213,  # ER_LOCK_DEADLOCK
        1317,  # ER_QUERY_INTERRUPTED
        1412,  # ER_TABLE_DEF_CHANGED
        1969,  # ER_STATEMENT_TIMEOUT of MariaDB
        3024,  # ER_QUERY_TIMEOUT of MySQL
        3572,  # ER_LOCK_NOWAIT of MySQL
    },
    DatabaseErrorKind.CONNECTION: {
        0,  # what PyMySQL says of a connection that is closed
        1040,  # ER_CON_COUNT_ERROR: too many
        1043,  # ER_HANDSHAKE_ERROR
        1047,  # ER_UNKNOWN_COM_ERROR: a node that is not ready
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
}
"""Numbers of MariaDB and MySQL: those of the server from 1000 on, those of the client from 2000 on."""

NAMES = {
    "SQLITE_BUSY": DatabaseErrorKind.CONFLICT,
    "SQLITE_LOCKED": DatabaseErrorKind.CONFLICT,
    "SQLITE_CANTOPEN": DatabaseErrorKind.CONNECTION,
    "SQLITE_FULL": DatabaseErrorKind.READ_ONLY,
    "SQLITE_IOERR": DatabaseErrorKind.READ_ONLY,
    "SQLITE_READONLY": DatabaseErrorKind.READ_ONLY,
}
"""Primary result codes of SQLite; extended ones begin with them."""


def classify_database_error(error: BaseException) -> DatabaseErrorKind | None:
    """What ails the database that raised ``error``, an error of Django; None for anything else."""
    told = error.__cause__ or error
    number = told.args[0] if told.args else None
    if isinstance(number, int):  # PyMySQL gives SQLSTATEs as well, but coarse ones
        return next((trouble for trouble, numbers in NUMBERS.items() if number in numbers), None)
    if name := getattr(told, "sqlite_errorname", ""):
        return _first(NAMES, name)
    for state_name in ("sqlstate", "pgcode"):  # psycopg, psycopg2
        if hasattr(told, state_name):
            return _of_state(getattr(told, state_name), told)
    return None


def summarise_error(error: BaseException) -> str:
    """What the error says, for a log: drivers explain themselves in several lines."""
    return " ".join(str(error).split()) or type(error).__name__


def _of_state(state: str | None, told: BaseException) -> DatabaseErrorKind | None:
    if state is not None:
        return _first(STATES, state)
    # The server had no say in it: there is none, or no longer, or the driver knows its own connection closed.
    kinds = {kind.__name__ for kind in type(told).__mro__}
    return DatabaseErrorKind.CONNECTION if kinds & {"OperationalError", "InterfaceError"} else None


def _first(known: dict[str, DatabaseErrorKind], code: str) -> DatabaseErrorKind | None:
    return next((trouble for beginning, trouble in known.items() if code.startswith(beginning)), None)
