"""Create a database for one run and drop it afterwards. Benchmarks and end-to-end tests use it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
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


def _execute(url: str, statement: str) -> None:
    if url.startswith("postgres"):
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement)
        return
    import pymysql

    server = urlsplit(url)
    user = {"user": unquote(server.username or ""), "password": unquote(server.password or "")}
    with pymysql.connect(host=server.hostname, port=server.port or 3306, **user) as connection:
        connection.cursor().execute(statement)
