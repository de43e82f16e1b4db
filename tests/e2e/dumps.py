"""Backups of a real database with the tools of PostgreSQL and MariaDB: pg_dump, psql, mariadb-dump and mariadb."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

TABLES = ["workspace", "group", "throttle", "batch", "record", "rejection", "attempt"]
TOOLS = {"postgres": ("pg_dump", "psql"), "mariadb": ("mariadb-dump", "mariadb")}


def missing_tools(kind: str) -> list[str]:
    """Return the programs of a database that are not installed."""
    return [name for name in TOOLS[kind] if shutil.which(name) is None]


class Dump:
    """A backup of one database in a file."""

    def __init__(self, kind: str, url: str, file: Path) -> None:
        self.kind, self.url, self.file = kind, url, file

    def take(self, *, is_data_only: bool = False) -> None:
        """Dump the database in one consistent snapshot, while it is used."""
        if self.kind == "postgres":
            options = (
                ["--data-only", *(f"--table=evermuse_outbox_outbox{t}" for t in TABLES)]
                if is_data_only
                else []
            )
            self._run(["pg_dump", *options, f"--file={self.file}", self.url])
            return
        options = ["--no-create-info", "--skip-add-locks", "--skip-disable-keys"] if is_data_only else []
        tables = [f"evermuse_outbox_outbox{table}" for table in TABLES] if is_data_only else []
        command = ["mariadb-dump", *self._server(), "--single-transaction", *options, self._name(), *tables]
        self._run([*command, f"--result-file={self.file}"])

    def restore(self) -> None:
        """Replace the complete database by the backup. No other process may use it."""
        if self.kind == "postgres":
            self._psql("DROP SCHEMA public CASCADE; CREATE SCHEMA public;")
            self._run(["psql", "--quiet", "--set=ON_ERROR_STOP=1", f"--file={self.file}", self.url])
        else:
            self._mariadb(self.file.read_text())

    def replace_rows(self) -> None:
        """Replace the rows of the outbox by the backup in one transaction, while workers use the database.

        For them, this is like the promotion of a replica that lags behind.
        """
        tables = [f"evermuse_outbox_outbox{table}" for table in TABLES]
        dump = self.file.read_text()
        if self.kind == "postgres":
            self._psql(f"BEGIN; TRUNCATE {', '.join(tables)};\n{dump}\nCOMMIT;")
        else:
            deletes = "".join(f"DELETE FROM {table};\n" for table in tables)
            self._mariadb(f"SET autocommit = 0; BEGIN;\n{deletes}{dump}\nCOMMIT;")

    def _psql(self, script: str) -> None:
        self._run(["psql", "--quiet", "--set=ON_ERROR_STOP=1", self.url], script)

    def _mariadb(self, script: str) -> None:
        self._run(["mariadb", *self._server(), self._name()], script)

    def _server(self) -> list[str]:
        server = urlsplit(self.url)
        return [
            f"--host={server.hostname}",
            f"--port={server.port or 3306}",
            f"--user={unquote(server.username or '')}",
        ]

    def _name(self) -> str:
        return urlsplit(self.url).path.lstrip("/")

    def _run(self, command: list[str], script: str | None = None) -> None:
        password = unquote(urlsplit(self.url).password or "")
        environment = os.environ | {"MYSQL_PWD": password}
        done = subprocess.run(
            command, input=script, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{command[0]}: {done.stderr}"
