"""Databases that are made for one run and dropped behind it: for the benchmarks, and for tests with real workers."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit


@contextmanager
def fresh_database(url: str, home: Path, purpose: str = "benchmark") -> Iterator[str]:
    """The URL of a new, empty database on that server (or of a file in ``home``); dropped at the end.

    ``purpose`` is a part of its name.
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

    at = urlsplit(url)
    user = {"user": unquote(at.username or ""), "password": unquote(at.password or "")}
    with pymysql.connect(host=at.hostname, port=at.port or 3306, **user) as connection:
        connection.cursor().execute(statement)
