"""The services that this machine has: by URL in the environment, or on their default local ports."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

VAR_DIR = Path(tempfile.gettempdir()) / f"evermuse-outbox-tests-{os.getuid()}"
VAR_DIR.mkdir(exist_ok=True)

HOW_TO_START = {
    "postgres": "set TEST_POSTGRES_URL or run one on 127.0.0.1:5432 (docker compose up -d postgres)",
    "mariadb": "set TEST_MARIADB_URL or run one on 127.0.0.1:3306 (docker compose up -d mariadb)",
    "redis": "set TEST_REDIS_URL or run one on 127.0.0.1:6379 (docker compose up -d redis)",
    "rabbitmq": "set TEST_RABBITMQ_URL or run one on 127.0.0.1:5672 (docker compose up -d rabbitmq)",
}


def _postgres(url: str) -> None:
    import psycopg

    psycopg.connect(url, connect_timeout=2).close()


def _mariadb(url: str) -> None:
    from urllib.parse import unquote, urlsplit

    import pymysql

    parts = urlsplit(url)
    pymysql.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        connect_timeout=2,
    ).close()


def _redis(url: str) -> None:
    import redis

    redis.Redis.from_url(url, socket_connect_timeout=2, socket_timeout=2).ping()


def _rabbitmq(url: str) -> None:
    import kombu

    with kombu.Connection(url, connect_timeout=2) as connection:
        connection.connect()


def _find_url(check, variable: str, *default_urls: str) -> str | None:
    """Return the URL in the environment, else the first default URL that answers, else None.

    A service that the environment names must answer.
    """
    configured = os.environ.get(variable)
    for url in [configured] if configured else default_urls:
        try:
            check(url)
        except Exception:
            if configured:
                raise
            continue
        return url
    return None


def _redis_number() -> int:
    """Return the number of this process's Redis database: tests that run at once share no rate limit."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    return 15 - int(worker) % 15


POSTGRES_URL = _find_url(
    _postgres,
    "TEST_POSTGRES_URL",
    "postgres://postgres:postgres@127.0.0.1:5432/postgres",
    "postgres://evermuse:evermuse@127.0.0.1:5432/postgres",
)
MARIADB_URL = _find_url(
    _mariadb,
    "TEST_MARIADB_URL",
    "mysql://root:@127.0.0.1:3306/mysql",
    "mysql://root:evermuse@127.0.0.1:3306/mysql",
)
REDIS_URL = _find_url(_redis, "TEST_REDIS_URL", f"redis://127.0.0.1:6379/{_redis_number()}")
RABBITMQ_URL = _find_url(_rabbitmq, "TEST_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//")


def missing_services() -> list[str]:
    """Return a line for each missing service that says how to start it."""
    urls = {"postgres": POSTGRES_URL, "mariadb": MARIADB_URL, "redis": REDIS_URL, "rabbitmq": RABBITMQ_URL}
    return [
        f"no {name}: the tests that need it are skipped; {HOW_TO_START[name]}"
        for name, url in urls.items()
        if not url
    ]
