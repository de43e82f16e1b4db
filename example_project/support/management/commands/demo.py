"""``manage.py demo``: run the example project with all its processes and show a delivery from start to end."""

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
START_TIMEOUT = 60.0  # seconds; a slow machine needs about ten to start the servers

STOP_TIMEOUT = 15.0  # seconds until a server that does not stop is killed


class Command(BaseCommand):
    """Run the example project and show the delivery of its records."""

    help = (
        "Run the example project on this machine. The demo starts a local Evermuse API, a Celery worker with "
        "beat and the web server. It writes conversations to a support desk and waits until their records are "
        "delivered. Then it keeps the servers running until Ctrl-C. With --exit it stops at once, with status 0 "
        "if everything was delivered. By default it uses a new SQLite database and a broker that stores "
        "messages as files. Set DATABASE_URL and CELERY_BROKER_URL to use others."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument(
            "--exit", action="store_true", help="stop the servers when everything is delivered"
        )
        parser.add_argument(
            "--conversations",
            type=int,
            default=300,
            metavar="N",
            help="number of conversations to write (default: %(default)s)",
        )
        parser.add_argument(
            "--timeout",
            type=float,
            default=180,
            metavar="SECONDS",
            help="longest time to wait for the delivery (default: %(default)s)",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Run the demo in a new folder, and stop its servers at the end."""
        home = Path(settings.BASE_DIR) / "var" / "demo"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        # SIGINT is set, too, because a background job of a shell ignores it by default.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _raise_interrupt)
        with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as cleanup:
            self._run(DemoProcesses(home, cleanup), options)

    def _run(self, processes: DemoProcesses, options: dict[str, Any]) -> None:
        password = secrets.token_urlsafe(9)
        self._print("Creating the database …")
        processes.manage("migrate", "--verbosity", "0")
        processes.manage("createsuperuser", "--noinput", DJANGO_SUPERUSER_PASSWORD=password)
        self._print("Starting a local Evermuse API, a Celery worker with beat, and the web server …")
        processes.start_servers()
        conversations = str(options["conversations"])
        self._print(
            f"Writing {conversations} conversations of 5 messages to the support desk. One in ten transactions is "
            "rolled back on purpose …"
        )
        processes.manage(
            "support_traffic",
            "--conversations",
            conversations,
            "--messages",
            "5",
            "--rollback",
            "10",
            loud=True,
        )
        self._print("Waiting until the Celery worker has delivered their records …")
        self._wait_for_delivery(processes, options["timeout"])
        self._print(self._summary(processes))
        if options["exit"]:
            self._print("The servers stop now. Run `make demo` to open the support desk and its admin.")
        else:
            self._print(
                f"  Support desk  {processes.web}/\n"
                f"  Admin         {processes.web}/admin/evermuse_outbox/   login: {USER}   password: {password}\n"
            )
            self._print(
                "The servers run until you press Ctrl-C. Write a message at the support desk, then reload its page: "
                "the badge beside the message shows the state of its record."
            )
            processes.serve()

    def _wait_for_delivery(self, processes: DemoProcesses, timeout: float) -> None:
        failed = processes.manage("outbox_drain", "--timeout", str(timeout), check=False, loud=True)
        if failed:
            raise CommandError(f"Not everything was delivered. The logs are in {processes.home}.")
        undelivered = processes.undelivered()
        if undelivered:
            raise CommandError(
                f"Not everything was delivered: {undelivered}. The logs are in {processes.home}."
            )

    def _summary(self, processes: DemoProcesses) -> str:
        records = processes.count_records()
        delivered, superseded = records["delivered"], records["superseded"]
        total = delivered + superseded
        return (
            f"\n"
            f"{total // 2:,} committed messages × 2 records = {total:,} records: the message, and a new version of\n"
            f"its conversation. A transaction that was rolled back has enqueued nothing.\n"
            f"  {delivered:>6,} delivered    Evermuse has processed the record: its batch is COMPLETE.\n"
            f"  {superseded:>6,} superseded   The record was not sent, because a newer version of its conversation\n"
            f"                      was enqueued first. The faster the delivery, the fewer there are.\n"
            f"\n"
            f"  Logs          {processes.home}/*.log\n"
        )

    def _print(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()


class DemoProcesses:
    """The processes of the demo, and the environment variables that they share."""

    def __init__(self, home: Path, cleanup: contextlib.ExitStack) -> None:
        """Choose the ports. Files go to ``home``; ``cleanup`` stops the servers when it is closed."""
        self.home = home
        self._cleanup = cleanup
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
        """Run a management command in a new process and return its exit status. ``loud`` shows its output."""
        process = subprocess.run(  # noqa: S603
            [sys.executable, "manage.py", *arguments],
            cwd=settings.BASE_DIR,
            env=self._environment | extra,
            stdout=None if loud else subprocess.DEVNULL,
            check=check,
        )
        return process.returncode

    def start_servers(self) -> None:
        """Start the API, the worker and the web server, and wait until both HTTP servers answer."""
        contract = settings.EVERMUSE_OUTBOX["CONTRACT"]
        self._start(
            "sandbox", "manage.py", "evermuse_sandbox", "--port", str(self._api_port), "--contract", contract
        )
        self._start("worker", "-m", "celery", "-A", "example_project", "worker", "-B", "--loglevel", "INFO")
        self._start("web", "manage.py", "runserver", "--noreload", f"127.0.0.1:{self._web_port}")
        self._wait_until_ready("web", f"{self.web}/health/")
        self._wait_until_ready("sandbox", f"http://127.0.0.1:{self._api_port}/")

    def serve(self) -> None:
        """Wait until Ctrl-C. Raises ``CommandError`` if a server stops before that."""
        while True:
            time.sleep(0.5)
            self._check_alive()

    def count_records(self) -> dict[str, int]:
        """Return the number of records by state."""
        output = subprocess.run(
            [sys.executable, "manage.py", "outbox_status", "--json"],
            cwd=settings.BASE_DIR,
            env=self._environment,
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        counts: dict[str, int] = json.loads(output)["records"]
        return counts

    def undelivered(self) -> str:
        """Return the counts of records that were not delivered, as text, or "" if all were delivered."""
        records = self.count_records()
        if not records["delivered"]:
            return "no record was delivered"
        return ", ".join(
            f"{count} {state}"
            for state, count in records.items()
            if count and state not in ("delivered", "superseded")
        )

    def _start(self, name: str, *arguments: str) -> None:
        log = self._cleanup.enter_context((self.home / f"{name}.log").open("wb"))
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, *arguments],
            cwd=settings.BASE_DIR,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C must reach only the demo, which then stops the servers
        )
        self._processes[name] = process
        self._cleanup.callback(_stop, process)

    def _wait_until_ready(self, name: str, url: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not _answers(url):
            self._check_alive()
            if time.monotonic() > deadline:
                raise CommandError(
                    f"The {name} server did not answer within {START_TIMEOUT:g} seconds. See {self.home}/{name}.log."
                )
            time.sleep(0.1)

    def _check_alive(self) -> None:
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise CommandError(f"The {name} server has stopped. See {self.home}/{name}.log.")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):  # noqa: S310
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port(wanted: int) -> int:
    """Return ``wanted`` if this port is free, else another free port."""
    for port in (wanted, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise CommandError("There is no free port on 127.0.0.1.")


def _raise_interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
