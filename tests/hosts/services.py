"""The services that hosts need. Each host gets a database, a user or a server of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

from redis import Redis

from benchmarks.common import processes
from benchmarks.common.databases import fresh_database
from tests.e2e.host_processes import wait_until
from tests.hosts.tls_server import tls_in_front_of
from tests.http_proxy import HttpProxy
from tests.services import HOW_TO_START, MARIADB_URL, POSTGRES_URL, RABBITMQ_URL, REDIS_URL
from tests.tls import ca_file

Variables = dict[str, str]

URLS = {"postgres": POSTGRES_URL, "mariadb": MARIADB_URL, "redis": REDIS_URL, "rabbitmq": RABBITMQ_URL}


API_ADDRESS = "[2001:db8::1]"
"""An address for documentation (RFC 3849), so no machine has it. The sandbox accepts addresses in the Host header."""


class Service(NamedTuple):
    """Something that a host needs: how it is started for a host, and the servers and programs that it needs itself.

    ``start(home, variables)`` yields the environment variables by which the host finds it.
    """

    start: Callable[[Path, Variables], AbstractContextManager[Variables]]
    servers: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()


@contextlib.contextmanager
def postgres(home: Path, variables: Variables) -> Iterator[Variables]:
    """Create a database."""
    with fresh_database(POSTGRES_URL or "", home, "host") as url:
        yield {"DATABASE_URL": url}


@contextlib.contextmanager
def mariadb(home: Path, variables: Variables) -> Iterator[Variables]:
    """Create a database."""
    with fresh_database(MARIADB_URL or "", home, "host") as url:
        yield {"DATABASE_URL": url}


@contextlib.contextmanager
def redis(home: Path, variables: Variables) -> Iterator[Variables]:
    """Use Redis as the broker and for the rate limit. The queue and the API key keep the hosts apart."""
    yield {"REDIS_URL": REDIS_URL or ""}
    with Redis.from_url(REDIS_URL or "") as connection:
        queue = variables["CELERY_TASK_DEFAULT_QUEUE"]
        connection.delete(f"_kombu.binding.{queue}", *connection.scan_iter(f"{queue}*"))


@contextlib.contextmanager
def redis_user(home: Path, variables: Variables) -> Iterator[Variables]:
    """Create a user of Redis that may use the keys of Celery and of the outbox, and no command for administrators."""
    name, password = variables["CELERY_TASK_DEFAULT_QUEUE"], "p@ss:w/rd#1"
    keys = ("~_kombu*", "~unacked*", "~celeryev*", "~*.pidbox*", "~*evermuse*", f"~{name}*")
    with redis(home, variables), Redis.from_url(REDIS_URL or "") as connection:
        rules = ("on", f">{password}", *keys, "&*", "+@all", "-@admin", "-@dangerous", "+info")
        connection.execute_command("ACL", "SETUSER", name, *rules)
        parts = urlsplit(REDIS_URL or "")
        server = f"{name}:{quote(password, safe='')}@{parts.hostname}:{parts.port or 6379}"
        yield {"REDIS_URL": urlunsplit(parts._replace(netloc=server))}
        connection.execute_command("ACL", "DELUSER", name)


@contextlib.contextmanager
def rabbitmq(home: Path, variables: Variables) -> Iterator[Variables]:
    """Use RabbitMQ as the broker, and delete the queue at the end."""
    import kombu

    yield {"CELERY_BROKER_URL": RABBITMQ_URL or ""}
    with kombu.Connection(RABBITMQ_URL) as connection:
        queue = variables["CELERY_TASK_DEFAULT_QUEUE"]
        connection.default_channel.queue_delete(queue)
        connection.default_channel.exchange_delete(queue)


@contextlib.contextmanager
def pgbouncer(home: Path, variables: Variables) -> Iterator[Variables]:
    """Start PgBouncer in front of the host's database, with three connections to it."""
    database = urlsplit(variables["DATABASE_URL"])
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "pgbouncer.ini"
        config.write_text(
            f"""[databases]
* = host={database.hostname} port={database.port or 5432} user={database.username} password={database.password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
"""
        )
        user = None
        if os.getuid() == 0:  # PgBouncer refuses to run as root
            user = "nobody"
            for path in (Path(folder), config):
                shutil.chown(path, user)
        program = shutil.which("pgbouncer") or ""
        with (home / "pgbouncer.txt").open("wb") as log:
            process = subprocess.Popen([program, str(config)], stdout=log, stderr=log, user=user)
        try:
            wait_until(lambda: answers(port), "PgBouncer listens")
            yield {
                "DATABASE_URL": urlunsplit(database._replace(netloc=f"{database.username}@127.0.0.1:{port}"))
            }
        finally:
            processes.end([process])


@contextlib.contextmanager
def http_proxy(home: Path, variables: Variables) -> Iterator[Variables]:
    """Start a proxy, which alone reaches the API. It opens tunnels, and TLS ends in front of the sandbox."""
    sandbox = urlsplit(variables["EVERMUSE_API_URL"])
    with (
        tls_in_front_of((sandbox.hostname or "", sandbox.port or 0)) as server,
        HttpProxy({f"{API_ADDRESS}:443": server}) as proxy,
    ):
        yield {
            "EVERMUSE_API_URL": f"https://{API_ADDRESS}",
            "HTTPS_PROXY": proxy.url,
            "REQUESTS_CA_BUNDLE": ca_file(),
        }
        assert all(head.startswith(f"CONNECT {API_ADDRESS}:443 ") for head in proxy.heads)
        assert proxy.heads


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Return whether a server listens on a port."""
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


SERVICES = {
    "postgres": Service(postgres, ("postgres",)),
    "mariadb": Service(mariadb, ("mariadb",)),
    "pgbouncer": Service(pgbouncer, programs=("pgbouncer",)),
    "http_proxy": Service(http_proxy, programs=("openssl",)),
    "redis": Service(redis, ("redis",)),
    "redis_user": Service(redis_user, ("redis",)),
    "rabbitmq": Service(rabbitmq, ("rabbitmq",)),
}
"""Name in ``NEEDS`` → service. Any other name is a package that must be installed."""


def missing(need: str) -> str | None:
    """Return why this machine cannot run a host that needs this service or package; None if it can."""
    if need not in SERVICES:
        return None if importlib.util.find_spec(need) else f"no package {need}"
    service = SERVICES[need]
    reasons = [f"no {name}: {HOW_TO_START[name]}" for name in service.servers if not URLS[name]]
    reasons += [f"no program {name}" for name in service.programs if not shutil.which(name)]
    return "; ".join(reasons) or None
