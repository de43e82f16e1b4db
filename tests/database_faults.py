"""Real database faults, caused from a second connection, and their end."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

from django.db import connections
from django.db.backends.signals import connection_created

READ_ONLY = {
    "postgresql": "SET default_transaction_read_only = on",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "sqlite": "PRAGMA query_only = on",
}
SHORT_LOCK_TIMEOUT = {
    "postgresql": "SET lock_timeout = '10ms'",
    "mysql": "SET SESSION innodb_lock_wait_timeout = 0",
    "sqlite": "PRAGMA busy_timeout = 0",
}
STRICT_SNAPSHOT = {
    "postgresql": ["SET default_transaction_isolation = 'repeatable read'"],
    "mysql": [
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET SESSION innodb_snapshot_isolation = on",
    ],
}
CREATE_DISK_FULL_TRIGGER = {
    "postgresql": """
        CREATE FUNCTION is_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
        CREATE TRIGGER is_full BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION is_full()""",
    "mysql": """
        CREATE TRIGGER is_full BEFORE INSERT ON {} FOR EACH ROW
            SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1021, MESSAGE_TEXT = 'Disk full, waiting for space'""",
}
DROP_DISK_FULL_TRIGGER = {"postgresql": "DROP FUNCTION is_full() CASCADE", "mysql": "DROP TRIGGER is_full"}


def run(connection, *statements):
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


class DatabaseFaults:
    """The faults that can be caused on one database alias.

    ``connection`` is the one of this thread. ``other_connection`` causes faults for it.
    """

    def __init__(self, alias):
        self.alias = alias
        self.other_connection = connections[alias].copy()
        self.other_connection.inc_thread_sharing()
        self._other_thread = ThreadPoolExecutor(1)
        self._for_each_connection = []
        self._is_disk_full = False
        self._waiting_statement = None
        self._has_begun = False
        self._port = self.connection.settings_dict.get("PORT")
        connection_created.connect(self._on_connect)

    @property
    def connection(self):
        return connections[self.alias]

    @property
    def vendor(self):
        return self.connection.vendor

    def end(self):
        """End all faults. Options that were set on the connection remain until ``close``."""
        self._for_each_connection = []
        self.connection.settings_dict["PORT"] = self._port
        self.unlock()
        if self._is_disk_full:
            self._is_disk_full = False
            run(self.other_connection, DROP_DISK_FULL_TRIGGER[self.vendor])

    def close(self):
        self.end()
        connection_created.disconnect(self._on_connect)
        self._other_thread.shutdown()
        self.other_connection.close()
        self.connection.close()  # with all options that were set on it

    # --- connections ----------------------------------------------------------------------------------

    def lose_connection(self):
        self.connection.ensure_connection()  # a task releases the connection that it opened after a fault
        raw = self.connection.connection
        if self.vendor == "postgresql":
            run(self.other_connection, f"SELECT pg_terminate_backend({raw.info.backend_pid}, 5000)")
        else:
            run(self.other_connection, f"KILL CONNECTION {raw.thread_id()}")

    def stop_server(self):
        """Lose the connection, and refuse new ones: the port is changed to one without a server."""
        self.lose_connection()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.connection.settings_dict["PORT"] = free.getsockname()[1]

    # --- writes ---------------------------------------------------------------------------------------

    def make_read_only(self):
        self._run_on_each_connection(READ_ONLY[self.vendor])

    def fill_disk(self, table):
        if self.vendor == "sqlite":
            self._run_on_each_connection("PRAGMA max_page_count = 1")  # SQLite raises it to the present size
        else:
            run(self.other_connection, CREATE_DISK_FULL_TRIGGER[self.vendor].format(table))
            self._is_disk_full = True

    def prepare(self):
        """Make the changes that a fault needs before a transaction begins."""
        if self.vendor == "sqlite":
            run(self.connection, "VACUUM")  # a full database would use its free pages first
        elif self.vendor == "postgresql":
            run(self.connection, "SET default_transaction_isolation = 'serializable'")

    # --- locks ----------------------------------------------------------------------------------------

    def lock_rows(self, table):
        """Lock all rows of a table from the other connection. This connection does not wait long for a lock."""
        run(self.connection, SHORT_LOCK_TIMEOUT[self.vendor])
        self._begin()
        if self.vendor != "sqlite":
            run(self.other_connection, f"SELECT * FROM {table} FOR UPDATE")

    def lock_table(self, table):
        """Lock a table from the other connection, so that new rows have to wait, too."""
        self._begin()
        if self.vendor == "postgresql":
            run(self.other_connection, f"LOCK TABLE {table} IN EXCLUSIVE MODE")
        elif self.vendor == "mysql":
            run(self.other_connection, f"SELECT id FROM {table} WHERE id >= 0 FOR UPDATE")

    def shorten_lock_timeout(self):
        run(self.connection, SHORT_LOCK_TIMEOUT[self.vendor])

    def block(self, statement):
        """Let the other connection wait for a lock of this one."""
        self._waiting_statement = self._other_thread.submit(run, self.other_connection, statement)
        # MariaDB checks for a deadlock at the statement that waits last. PostgreSQL checks after deadlock_timeout, and
        # the connection with the shorter one finds the deadlock.
        deadline = time.monotonic() + 20
        while self.vendor == "postgresql" and not self._is_other_connection_waiting():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _is_other_connection_waiting(self):
        query = "SELECT 1 FROM pg_locks WHERE NOT granted AND pid = %s"
        with self.connection.cursor() as cursor:
            cursor.execute(query, [self.other_connection.connection.info.backend_pid])
            return cursor.fetchone() is not None

    def unlock(self):
        """Release the locks of the other connection, after the lock that it waits for was granted."""
        if self._waiting_statement:
            self._waiting_statement.result(20)
        if self._has_begun:
            run(self.other_connection, "ROLLBACK")
        self._waiting_statement, self._has_begun = None, False

    # --- conflicts ------------------------------------------------------------------------------------

    def use_strict_snapshot(self):
        """Let transactions see the rows as they were at their start, and fail to change rows that changed since."""
        run(self.connection, *STRICT_SNAPSHOT[self.vendor])

    def change_rows(self, table, assignment):
        """Start the snapshot of this connection's transaction; then change all rows of a table from the other one."""
        run(self.connection, f"SELECT COUNT(*) FROM {table}")
        run(self.other_connection, f"UPDATE {table} SET {assignment}")

    def become_deadlock_victim(self):
        """Let this connection be the one that the database rolls back in a deadlock."""
        self._begin()
        if self.vendor == "postgresql":
            run(self.connection, "SET deadlock_timeout = '10ms'")
        else:  # the transaction with fewer changes is rolled back
            names = ", ".join(f"('{number}')" for number in range(200))
            run(self.other_connection, f"INSERT INTO auth_group (name) VALUES {names}")

    def break_serial_order(self, read, written):
        """Commit a transaction that reads the table that this one writes, and writes the table that it reads."""
        name = "md5(random()::text)"
        run(self.other_connection, "BEGIN ISOLATION LEVEL SERIALIZABLE", f"SELECT COUNT(*) FROM {read}")
        run(self.other_connection, f"INSERT INTO {written} (name) VALUES ({name})", "COMMIT")

    def _begin(self):
        if self._has_begun:
            return
        if self.vendor == "mysql":  # REPEATABLE READ also locks gaps
            run(self.other_connection, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        run(self.other_connection, "BEGIN IMMEDIATE" if self.vendor == "sqlite" else "BEGIN")
        self._has_begun = True

    def _run_on_each_connection(self, statement):
        self._for_each_connection.append(statement)
        run(self.connection, statement)

    def _on_connect(self, connection, **_):
        if connection.alias == self.alias and connection is not self.other_connection:
            run(connection, *self._for_each_connection)
