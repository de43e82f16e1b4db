"""``manage.py demo``: the main job on this machine alone, watched until every batch is COMPLETE."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

USER = "admin"
READY = 60.0
"""Seconds that a server may take to answer for the first time."""


class Command(BaseCommand):
    help = (
        "Starts a local Evermuse, a Celery worker with beat and the web server, writes conversations as the "
        "visitors of a support desk would, and shows how they are delivered. Then it keeps serving until "
        "Ctrl-C, or with --exit ends with status 0 if everything was delivered. Unless DATABASE_URL and "
        "CELERY_BROKER_URL name others, it uses SQLite and a broker of plain files, made anew each time."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--exit", action="store_true", help="stop when everything is delivered")
        parser.add_argument("--conversations", type=int, default=300, help="default: %(default)s")
        parser.add_argument(
            "--timeout", type=float, default=180, help="seconds to wait (default: %(default)s)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        home = Path(settings.BASE_DIR) / "var" / "demo"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: a shell's background job ignores it
            signal.signal(number, _as_interrupt)
        with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as running:
            self._run(Stage(home, running), options)

    def _run(self, stage: Stage, options: dict[str, Any]) -> None:
        password = secrets.token_urlsafe(9)
        self._say("Setting up the database …")
        stage.manage("migrate", "--verbosity", "0")
        stage.manage("createsuperuser", "--noinput", DJANGO_SUPERUSER_PASSWORD=password)
        self._say("Starting a local Evermuse, a Celery worker with beat and the web server …")
        stage.start_servers()
        self._say(
            f"The support desk writes {options['conversations']} conversations, some of them rolled back …"
        )
        stage.manage(
            "support_traffic", "--conversations", str(options["conversations"]), "--rollback", "10", loud=True
        )
        self._say("The workers deliver:")
        self._show(stage, options["timeout"])
        self._say(self._where(stage, password))
        if not options["exit"]:
            self._say("Serving until Ctrl-C. Write a message at the support desk and watch it leave.")
            stage.serve()

    def _show(self, stage: Stage, timeout: float) -> None:
        drained = stage.manage("outbox_drain", "--timeout", str(timeout), check=False, loud=True)
        if drained:
            raise CommandError(f"Not everything was delivered. The logs are in {stage.home}.")
        left = stage.undelivered()
        if left:
            raise CommandError(f"Not everything was delivered: {left}. The logs are in {stage.home}.")

    def _where(self, stage: Stage, password: str) -> str:
        return (
            f"\nEvery batch is COMPLETE.\n"
            f"  Support desk  {stage.web}/\n"
            f"  Admin         {stage.web}/admin/evermuse_outbox/   login: {USER}   password: {password}\n"
            f"  Logs          {stage.home}/*.log\n"
        )

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()


class Stage:
    """The processes of the demo, and the environment that they share."""

    def __init__(self, home: Path, running: contextlib.ExitStack) -> None:
        self.home = home
        self._running = running
        self._web_port, self._api_port = _free_port(8000), _free_port(8787)
        self.web = f"http://127.0.0.1:{self._web_port}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = os.environ | {
            "EXAMPLE_VAR_DIR": str(home),
            "EVERMUSE_API_URL": f"http://127.0.0.1:{self._api_port}",
            "EVERMUSE_API_KEY": "em_sk_sandbox",
            "DJANGO_SUPERUSER_USERNAME": USER,
            "DJANGO_SUPERUSER_EMAIL": "admin@example.com",
            "PYTHONUNBUFFERED": "1",
        }

    def manage(self, *arguments: str, check: bool = True, loud: bool = False, **extra: str) -> int:
        """One management command in a process of its own, as a user would type it; its exit status."""
        done = subprocess.run(  # noqa: S603
            [sys.executable, "manage.py", *arguments],
            cwd=settings.BASE_DIR,
            env=self._environment | extra,
            stdout=None if loud else subprocess.DEVNULL,
            check=check,
        )
        return done.returncode

    def start_servers(self) -> None:
        """Starts the three servers and waits until they answer."""
        contract = settings.EVERMUSE_OUTBOX["CONTRACT"]
        self._start(
            "sandbox", "manage.py", "evermuse_sandbox", "--port", str(self._api_port), "--contract", contract
        )
        self._start("worker", "-m", "celery", "-A", "example_project", "worker", "-B", "--loglevel", "INFO")
        self._start("web", "manage.py", "runserver", "--noreload", f"127.0.0.1:{self._web_port}")
        self._await("web", f"{self.web}/health/")
        self._await("sandbox", f"http://127.0.0.1:{self._api_port}/")

    def serve(self) -> None:
        """Until Ctrl-C, or until one of the servers ends."""
        while True:
            time.sleep(0.5)
            self._check_alive()

    def undelivered(self) -> str:
        """What did not end as it should, in words; empty when all was delivered."""
        told = subprocess.run(
            [sys.executable, "manage.py", "outbox_status", "--json"],
            cwd=settings.BASE_DIR,
            env=self._environment,
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        records = json.loads(told)["records"]
        good = {"delivered", "superseded"}
        if not records["delivered"]:
            return "no record was delivered at all"
        return ", ".join(f"{n} {state}" for state, n in records.items() if n and state not in good)

    def _start(self, name: str, *arguments: str) -> None:
        log = self._running.enter_context((self.home / f"{name}.log").open("wb"))
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, *arguments],
            cwd=settings.BASE_DIR,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the demo, which then ends its servers in order
        )
        self._processes[name] = process
        self._running.callback(_end, process)

    def _await(self, name: str, url: str) -> None:
        deadline = time.monotonic() + READY
        while not _answers(url):
            self._check_alive()
            if time.monotonic() > deadline:
                raise CommandError(
                    f"The {name} server did not answer in {READY:g} s; see {self.home}/{name}.log."
                )
            time.sleep(0.1)

    def _check_alive(self) -> None:
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise CommandError(f"The {name} server has ended; see {self.home}/{name}.log.")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):  # noqa: S310
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port(wanted: int) -> int:
    """``wanted`` if it is free, else any port that is."""
    for port in (wanted, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise CommandError("no free port on 127.0.0.1")


def _as_interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
