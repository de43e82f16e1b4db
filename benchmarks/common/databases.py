"""Create a database for one run and drop it afterwards. Benchmarks and end-to-end tests use it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit


@contextmanager
def fresh_database(url: str, home: Path, purpose: str = "benchmark") -> Iterator[str]:
    """Create an empty database, yield its URL, and drop it at the end.

    Args:
        url: URL of a database on the server. ``sqlite://`` creates a file in ``home``.
        home: Folder for the file of SQLite.
        purpose: Part of the name of the database.
    """
    if url.startswith("sqlite"):
        yield f"sqlite:///{home / purpose}.sqlite3"
        return
    name = f"evermuse_{purpose}_{uuid.uuid4().hex[:12]}"
    charset = " CHARACTER SET utf8mb4" if url.startswith("mysql") else ""
    _execute(url, f"CREATE DATABASE {name}{charset}")
    try:
        yield urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    finally:
        _execute(url, f"DROP DATABASE {name}" + (" WITH (FORCE)" if url.startswith("postgres") else ""))


def count_connections(url: str) -> int:
    """Return how many connections the server has to the database of a URL. SQLite has no server."""
    name = urlsplit(url).path.lstrip("/")
    if url.startswith("postgres"):
        statement = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
        maintenance = urlunsplit(urlsplit(url)._replace(path="/postgres"))
    else:
        statement = "SELECT count(*) FROM information_schema.processlist WHERE db = %s"
        maintenance = url
    return int(_query(maintenance, statement, name))


def _execute(url: str, statement: str) -> None:
    with _connect(url) as connection:
        connection.cursor().execute(statement)


def _query(url: str, statement: str, *parameters: str) -> Any:
    """Return the only value of the result."""
    with _connect(url) as connection:
        cursor = connection.cursor()
        cursor.execute(statement, parameters)
        return cursor.fetchone()[0]


def _connect(url: str) -> Any:
    """Connect to the server, not to a database of MariaDB."""
    if url.startswith("postgres"):
        import psycopg

        return psycopg.connect(url, autocommit=True)
    import pymysql

    server = urlsplit(url)
    user = {"user": unquote(server.username or ""), "password": unquote(server.password or "")}
    return pymysql.connect(host=server.hostname, port=server.port or 3306, **user)
