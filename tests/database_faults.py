"""Real trouble for a database, brought about from a second connection, and the end of it."""

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
NO_PATIENCE = {
    "postgresql": "SET lock_timeout = '10ms'",
    "mysql": "SET SESSION innodb_lock_wait_timeout = 0",
    "sqlite": "PRAGMA busy_timeout = 0",
}
ONE_VIEW = {
    "postgresql": ["SET default_transaction_isolation = 'repeatable read'"],
    "mysql": [
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET SESSION innodb_snapshot_isolation = on",
    ],
}
FULL = {
    "postgresql": """
        CREATE FUNCTION is_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
        CREATE TRIGGER is_full BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION is_full()""",
    "mysql": """
        CREATE TRIGGER is_full BEFORE INSERT ON {} FOR EACH ROW
            SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1021, MESSAGE_TEXT = 'Disk full, waiting for space'""",
}
ROOM_AGAIN = {"postgresql": "DROP FUNCTION is_full() CASCADE", "mysql": "DROP TRIGGER is_full"}


def run(connection, *statements):
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


class Ailing:
    """One database alias and all that may befall it."""

    def __init__(self, alias):
        self.alias = alias
        self.rival = connections[alias].copy()
        self.rival.inc_thread_sharing()
        self.others = ThreadPoolExecutor(1)
        self._for_each_connection = []
        self._is_full = False
        self._waiting = None
        self._has_begun = False
        self._port = self.own.settings_dict.get("PORT")
        connection_created.connect(self._on_connect)

    @property
    def own(self):
        """The connection that this thread works with."""
        return connections[self.alias]

    @property
    def vendor(self):
        return self.own.vendor

    def cure(self):
        """The end of whatever was begun."""
        self._for_each_connection = []
        self.own.settings_dict["PORT"] = self._port
        self.unlock()
        if self._is_full:
            self._is_full = False
            run(self.rival, ROOM_AGAIN[self.vendor])

    def close(self):
        self.cure()
        connection_created.disconnect(self._on_connect)
        self.others.shutdown()
        self.rival.close()
        self.own.close()  # with all that was set on it

    # --- what may befall it ---------------------------------------------------------------------------

    def lose_connection(self):
        raw = self.own.connection
        if self.vendor == "postgresql":
            run(self.rival, f"SELECT pg_terminate_backend({raw.info.backend_pid}, 5000)")
        else:
            run(self.rival, f"KILL CONNECTION {raw.thread_id()}")

    def go_away(self):
        """The connection is lost, and nobody listens where a new one could be had."""
        self.lose_connection()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.own.settings_dict["PORT"] = free.getsockname()[1]

    def become_read_only(self):
        self._always(READ_ONLY[self.vendor])

    def fill_up(self, table):
        if self.vendor == "sqlite":
            self._always("PRAGMA max_page_count = 1")  # it never goes below what is used already
        else:
            run(self.rival, FULL[self.vendor].format(table))
            self._is_full = True

    def prepare(self):
        """What some trouble needs before a transaction begins."""
        if self.vendor == "sqlite":
            run(self.own, "VACUUM")  # a full one would fill its free pages first
        elif self.vendor == "postgresql":
            run(self.own, "SET default_transaction_isolation = 'serializable'")

    def lock(self, table):
        """A rival keeps all rows of the table locked, and nobody waits for long."""
        run(self.own, NO_PATIENCE[self.vendor])
        self._begin()
        if self.vendor != "sqlite":
            run(self.rival, f"SELECT * FROM {table} FOR UPDATE")

    def lock_whole(self, table):
        """A rival lets nobody write to the table, new rows included."""
        self._begin()
        if self.vendor == "postgresql":
            run(self.rival, f"LOCK TABLE {table} IN EXCLUSIVE MODE")
        elif self.vendor == "mysql":
            run(self.rival, f"SELECT id FROM {table} WHERE id >= 0 FOR UPDATE")

    def wait_for_nobody(self):
        run(self.own, NO_PATIENCE[self.vendor])

    def block(self, statement):
        """The rival begins to wait for what this thread has locked."""
        self._waiting = self.others.submit(run, self.rival, statement)
        # MariaDB looks at a deadlock whoever waits last; PostgreSQL only after a while, and whose was the shorter.
        until = time.monotonic() + 20
        while self.vendor == "postgresql" and not self._is_rival_waiting():
            assert time.monotonic() < until
            time.sleep(0.01)

    def _is_rival_waiting(self):
        asked = "SELECT 1 FROM pg_locks WHERE NOT granted AND pid = %s"
        with self.own.cursor() as cursor:
            cursor.execute(asked, [self.rival.connection.info.backend_pid])
            return cursor.fetchone() is not None

    def unlock(self):
        """The rival gives all its locks back, once it has had what it waited for."""
        if self._waiting:
            self._waiting.result(20)
        if self._has_begun:
            run(self.rival, "ROLLBACK")
        self._waiting, self._has_begun = None, False

    def keep_one_view(self):
        """Transactions see the rows as they were at their start, and fail where others have changed them."""
        run(self.own, *ONE_VIEW[self.vendor])

    def change(self, table, how):
        """Others change all rows of the table, after this thread's transaction has begun to look."""
        run(self.own, f"SELECT COUNT(*) FROM {table}")
        run(self.rival, f"UPDATE {table} SET {how}")

    def be_the_victim(self):
        """Of a deadlock with the rival, which has more to lose."""
        self._begin()
        if self.vendor == "postgresql":
            run(self.own, "SET deadlock_timeout = '10ms'")
        else:
            names = ", ".join(f"('{number}')" for number in range(200))
            run(self.rival, f"INSERT INTO auth_group (name) VALUES {names}")

    def fall_out_of_order(self, read, written):
        """Between what this thread has read and what it will write comes a rival, the other way round."""
        name = "md5(random()::text)"
        run(self.rival, "BEGIN ISOLATION LEVEL SERIALIZABLE", f"SELECT COUNT(*) FROM {read}")
        run(self.rival, f"INSERT INTO {written} (name) VALUES ({name})", "COMMIT")

    def _begin(self):
        if self._has_begun:
            return
        if self.vendor == "mysql":  # so that it locks gaps, too
            run(self.rival, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        run(self.rival, "BEGIN IMMEDIATE" if self.vendor == "sqlite" else "BEGIN")
        self._has_begun = True

    def _always(self, statement):
        self._for_each_connection.append(statement)
        run(self.own, statement)

    def _on_connect(self, connection, **_):
        if connection.alias == self.alias and connection is not self.rival:
            run(connection, *self._for_each_connection)
