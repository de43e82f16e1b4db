"""Run the example project with a new database and worker processes, so that its delivery can be measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import processes
from .databases import fresh_database

ROOT = Path(__file__).resolve().parent.parent.parent
POSTGRES = os.environ.get("BENCHMARK_POSTGRES_URL", "postgres://postgres:postgres@127.0.0.1:5432/postgres")
MARIADB = os.environ.get("BENCHMARK_MARIADB_URL", "mysql://root:@127.0.0.1:3306/mysql")
REDIS = os.environ.get("BENCHMARK_REDIS_URL", "redis://127.0.0.1:6379/14")
SETTINGS = "benchmarks.settings"


@dataclass
class Testbed:
    """A database and the processes that work on it. Create it with :func:`running`.

    ``home`` is the folder for the logs of the processes.
    """

    database_url: str
    home: Path
    workers: list[subprocess.Popen] = field(default_factory=list)

    def start_workers(self, count: int, *arguments: str) -> None:
        """Start beat and ``count`` Celery worker processes.

        ``arguments`` choose the pool of each worker. The default is three threads.
        """
        self._start("beat", "-m", "celery", "-q", "-A", "example_project", "beat", "-l", "WARNING")
        for number in range(count):
            name = f"worker{number}@{uuid.uuid4().hex[:8]}"
            worker = [
                "-W",
                "ignore",
                "-m",
                "celery",
                "-q",
                "-A",
                "example_project",
                "worker",
                "-l",
                "WARNING",
                "-n",
                name,
            ]
            pool = arguments or ("-P", "threads", "-c", "3")
            self._start(f"worker-{number}", *worker, "--without-gossip", "--without-mingle", *pool)

    def start_relays(self, count: int) -> None:
        """Start ``count`` processes of ``manage.py outbox_relay``."""
        for number in range(count):
            self._start(f"relay-{number}", "manage.py", "outbox_relay")

    def _start(self, name: str, *command: str) -> None:
        log = (self.home / f"{name}.log").open("wb")
        self.workers.append(subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=log, stderr=log))

    def stop_workers(self) -> None:
        """Stop all processes, and print the warnings in their logs."""
        processes.end(self.workers)
        self.workers.clear()
        for log in sorted(self.home.glob("*.log")):
            text = log.read_text(errors="replace").replace("worker: Warm shutdown (MainProcess)", "").strip()
            log.unlink()
            if text:
                print(f"--- {log.name}\n{text[-2_000:]}", file=sys.stderr)

    def empty(self) -> None:
        """Delete all rows of the outbox, so that another run can start."""
        from django.apps import apps

        for table in apps.get_app_config("evermuse_outbox").get_models():
            rows: Any = table._base_manager.all()
            rows._raw_delete(rows.db)

    def wal_position(self) -> int:
        """Return the position in the write-ahead log of PostgreSQL in bytes, or 0 for other databases."""
        from django.db import connection

        if connection.vendor != "postgresql":
            return 0
        return int(self.sql("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")[0][0])

    def version(self) -> str:
        """Return the name and version of the database server."""
        from django.db import connection

        statement = "SELECT sqlite_version()" if connection.vendor == "sqlite" else "SELECT version()"
        return f"{connection.vendor} {self.sql(statement)[0][0]}"

    def server_pids(self) -> dict[str, list[int]]:
        """Return the process ids of the PostgreSQL and the Redis server of this run, if they are on this machine."""
        import psutil
        import redis
        from django.db import connection

        pids = {}
        if connection.vendor == "postgresql":
            backend = self.sql("SELECT pg_backend_pid()")[0][0]
            pids["postgres"] = [psutil.Process(backend).ppid()] if psutil.pid_exists(backend) else []
        with redis.Redis.from_url(REDIS) as client:
            server: Any = client.info("server")
        pids["redis"] = [server["process_id"]] if psutil.pid_exists(server["process_id"]) else []
        return pids

    def sql(self, statement: str, *arguments: Any) -> list[tuple]:
        """Run a statement and return its rows."""
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute(statement, arguments or None)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def running(
    database_url: str = POSTGRES, *, api_url: str = "http://127.0.0.1:1", **outbox: Any
) -> Iterator[Testbed]:
    """Create and migrate a database, set up Django on it, and yield the testbed.

    Call it only once per process, because Django can be set up only once.

    Args:
        database_url: URL of a database server, or ``sqlite://``.
        api_url: URL of the Evermuse API. By default nothing answers there.
        outbox: Settings in ``EVERMUSE_OUTBOX``.
    """
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evermuse-benchmark-")))
        url = stack.enter_context(fresh_database(database_url, home))
        os.environ.update(
            DJANGO_SETTINGS_MODULE=SETTINGS,
            DATABASE_URL=url,
            REDIS_URL=REDIS,
            CELERY_TASK_DEFAULT_QUEUE=f"benchmark-{uuid.uuid4().hex[:8]}",
            EXAMPLE_VAR_DIR=str(home),
            EVERMUSE_API_URL=api_url,
            EVERMUSE_API_KEY=f"em_sk_{uuid.uuid4().hex}",
            BENCHMARK_OUTBOX=json.dumps(outbox),
            C_FORCE_ROOT="1",
        )
        import django
        from django.core.management import call_command
        from django.db import connections

        django.setup()
        call_command("migrate", verbosity=0)
        bed = Testbed(url, home)
        stack.callback(connections.close_all)
        stack.callback(bed.stop_workers)
        yield bed
