"""A host with a database, workers and an API of its own, as processes, and what they cost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from . import processes
from .databases import fresh_database

ROOT = Path(__file__).resolve().parent.parent.parent
POSTGRES = os.environ.get("BENCHMARK_POSTGRES_URL", "postgres://postgres:postgres@127.0.0.1:5432/postgres")
MARIADB = os.environ.get("BENCHMARK_MARIADB_URL", "mysql://root:@127.0.0.1:3306/mysql")
REDIS = os.environ.get("BENCHMARK_REDIS_URL", "redis://127.0.0.1:6379/14")
SETTINGS = "benchmarks.settings"


@dataclass
class Stage:
    """One database, and the processes that work on it; made by :func:`stage`."""

    database_url: str
    home: Path
    workers: list[subprocess.Popen] = field(default_factory=list)

    def start_workers(self, count: int, *arguments: str) -> None:
        """``count`` Celery worker processes of one task at a time each, and a beat."""
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
        """``count`` processes of ``manage.py outbox_relay``."""
        for number in range(count):
            self._start(f"relay-{number}", "manage.py", "outbox_relay")

    def _start(self, name: str, *command: str) -> None:
        log = (self.home / f"{name}.log").open("wb")
        self.workers.append(subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=log, stderr=log))

    def stop_workers(self) -> None:
        """Ends them gently; what they wrote to their logs as warnings is shown."""
        processes.end(self.workers)
        self.workers.clear()
        for log in sorted(self.home.glob("*.log")):
            text = log.read_text(errors="replace").replace("worker: Warm shutdown (MainProcess)", "").strip()
            log.unlink()
            if text:
                print(f"--- {log.name}\n{text[-2_000:]}", file=sys.stderr)

    def empty(self) -> None:
        """Takes all rows of the outbox away, for another run."""
        from django.apps import apps

        for table in apps.get_app_config("evermuse_outbox").get_models():
            rows: Any = table._base_manager.all()
            rows._raw_delete(rows.db)

    def wal(self) -> int:
        """The database server's position in its write-ahead log in bytes; 0 where it has none to tell."""
        from django.db import connection

        if connection.vendor != "postgresql":
            return 0
        return int(self.sql("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")[0][0])

    def version(self) -> str:
        """The database server in words."""
        from django.db import connection

        statement = "SELECT sqlite_version()" if connection.vendor == "sqlite" else "SELECT version()"
        return f"{connection.vendor} {self.sql(statement)[0][0]}"

    def sql(self, statement: str, *arguments: Any) -> list[tuple]:
        """The rows of one statement, on a connection of its own."""
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute(statement, arguments or None)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def stage(
    database_url: str = POSTGRES, *, api_url: str = "http://127.0.0.1:1", **outbox: Any
) -> Iterator[Stage]:
    """A fresh database on that server, migrated, with Django set up on it. Once for a process.

    ``outbox`` are keys of ``EVERMUSE_OUTBOX``.
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
        set_up = Stage(url, home)
        stack.callback(connections.close_all)
        stack.callback(set_up.stop_workers)
        yield set_up


class CpuMeter:
    """CPU seconds by role since it was made: processes with all their children, ended ones too."""

    def __init__(self, **roles: list[int]) -> None:
        """``roles`` names the processes of each; ``postgres`` and ``redis`` are found by their names."""
        self._roles = roles | {"postgres": _pids_of("postgres"), "redis": _pids_of("redis-server")}
        self._before = self._now()
        self._machine, self._since = _busy(), time.monotonic()

    def add(self, **roles: list[int]) -> None:
        """More processes, started since: all that they have used counts."""
        self._roles |= roles

    def read(self) -> dict[str, float]:
        """Seconds by role, ``all`` of these together, and ``machine``: the busy share of all cores, 0 to 1."""
        spent = {role: now - self._before.get(role, 0.0) for role, now in self._now().items()}
        cores = (time.monotonic() - self._since) * (os.cpu_count() or 1)
        return spent | {"all": sum(spent.values()), "machine": (_busy() - self._machine) / cores}

    def _now(self) -> dict[str, float]:
        return {role: sum(map(_spent, pids)) for role, pids in self._roles.items()}


def _pids_of(name: str) -> list[int]:
    """The first process of that name, whose children are the others."""
    found = [p.pid for p in psutil.process_iter(["name", "ppid"]) if p.info["name"] == name]
    return [pid for pid in found if psutil.Process(pid).ppid() not in found]


def _spent(pid: int) -> float:
    total = 0.0
    try:
        process = psutil.Process(pid)
        for each in [process, *process.children(recursive=True)]:
            used = each.cpu_times()
            total += used.user + used.system + used.children_user + used.children_system
    except psutil.NoSuchProcess:
        pass
    return total


def _busy() -> float:
    used = psutil.cpu_times()
    return sum(used) - used.idle - used.iowait - used.guest - used.guest_nice
