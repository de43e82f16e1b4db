"""Run a contender: its database, its API, its worker processes, and the host that enqueues."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..common import processes, sink, testbed
from ..common.databases import fresh_database
from . import Contender, environment


class ContenderError(Exception):
    """A contender did not finish its run. The message names the reason."""


@contextmanager
def host_and_api(contender: Contender, delay: float) -> Iterator[tuple[dict[str, str], sink.Sink, Path]]:
    """Create a database with the tables of a contender, and run an API that answers after ``delay`` seconds.

    Yields the environment variables for the contender's processes, the API, and a folder for logs.
    """
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evermuse-peers-")))
        api = stack.enter_context(sink.running(delay=delay, identities=True))
        url = stack.enter_context(fresh_database(testbed.POSTGRES, home))
        variables = stack.enter_context(_environment(contender, api.url, url, home))
        run_host(variables, contender, "prepare")
        yield variables, api, home


@contextmanager
def _environment(contender: Contender, api_url: str, url: str, home: Path) -> Iterator[dict[str, str]]:
    """Yield the environment variables for the contender's processes. Delete their Celery queue at the end."""
    queue = f"benchmark-{uuid.uuid4().hex[:8]}"
    yield os.environ | {
        "DJANGO_SETTINGS_MODULE": contender.settings,
        "DATABASE_URL": url,
        "REDIS_URL": testbed.REDIS,
        "CELERY_TASK_DEFAULT_QUEUE": queue,
        "EXAMPLE_VAR_DIR": str(home),
        "EVERMUSE_API_URL": api_url,
        "EVERMUSE_API_KEY": f"em_sk_{uuid.uuid4().hex}",
        "BENCHMARK_OUTBOX": json.dumps(dict(contender.outbox)),
        "C_FORCE_ROOT": "1",
    }
    import redis

    redis.Redis.from_url(testbed.REDIS).delete(queue)


def host_command(contender: Contender, *arguments: str) -> list[str]:
    """Return the command line for a command of ``contenders/host.py`` in the contender's environment."""
    return [_python(contender), "-m", "benchmarks.contenders.host", *arguments]


def run_host(variables: dict[str, str], contender: Contender, *arguments: str) -> str:
    """Run a command of ``contenders/host.py``, and return its output."""
    command = host_command(contender, *arguments)
    process = subprocess.run(command, env=variables, cwd=testbed.ROOT, capture_output=True, text=True)
    if process.returncode:
        raise ContenderError(environment.last_line(process.stderr))
    return process.stdout


@contextmanager
def workers(variables: dict[str, str], contender: Contender, home: Path) -> Iterator[None]:
    """Run the worker processes. If the run fails, the error gets the last line of each log."""
    running, logs = [], []
    try:
        for number, arguments in enumerate(contender.workers):
            logs.append(home / f"{number}.log")
            command = [
                _python(contender),
                "-W",
                "ignore",
                *(argument.format(home=home) for argument in arguments),
            ]
            with logs[-1].open("wb") as log:
                running.append(
                    subprocess.Popen(command, env=variables, cwd=testbed.ROOT, stdout=log, stderr=log)
                )
        yield
    except ContenderError as error:
        last_lines = [environment.last_line(log.read_text(errors="replace")) for log in logs]
        raise ContenderError(f"{error}; {' '.join(last_lines)}") from None
    finally:
        processes.end(running)


def _python(contender: Contender) -> str:
    return str(environment.PYTHON if contender.requires else sys.executable)
