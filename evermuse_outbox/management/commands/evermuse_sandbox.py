"""``manage.py evermuse_sandbox``: Evermuse on localhost, with a line for every request."""

from __future__ import annotations

import argparse
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandError, CommandParser

from evermuse_outbox.management import CommandWithExamples
from evermuse_outbox.sandbox import DEFAULT_KEY, ApiKey, Arrival, Sandbox, SandboxUnavailable

HELP = """\
Evermuse on this machine, for development: the published ingestion API with its limits, its validation
and the life of its batches. Nothing is kept when it ends, and no database is needed.
"""

EXAMPLES = """\
examples:
  manage.py evermuse_sandbox
      Listen on http://127.0.0.1:8787 and take the key em_sk_sandbox.
  manage.py evermuse_sandbox --contract openapi --batch-seconds 10
      The stricter contract, and batches that take their time.
  manage.py evermuse_sandbox --fail 20
      A bad day: every fifth request meets an error, a 429 or a cut connection.

try it:
  curl -X POST http://127.0.0.1:8787/api/v1/ingest -H 'x-api-key: em_sk_sandbox' \\
       -H 'Content-Type: application/json' -d '{"_type": "message", "_schema_version": "1.0.0",
       "_event_at": "2026-02-24T12:34:56Z", "_vendor_ids": {"id": "1"}, "_product_id": "prod-1",
       "_project_id": "proj-1", "data": {"text": "hello"}}'
  curl http://127.0.0.1:8787/api/v1/ingest/batches -H 'x-api-key: em_sk_sandbox'
"""

PREFIX = "em_sk_"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Command(CommandWithExamples):
    help = HELP
    examples = EXAMPLES
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
        add("--port", type=int, default=8787, help="port, 0 for any free one (default: %(default)s)")
        add(
            "--contract",
            choices=["reference", "openapi"],
            default="reference",
            help="which published text to hold clients to (default: %(default)s)",
        )
        add(
            "--key",
            action="append",
            dest="keys",
            metavar="KEY",
            help=f"a key to take, may be repeated (default: {DEFAULT_KEY})",
        )
        add(
            "--rate-limit",
            type=whole_number,
            default=10,
            metavar="N",
            help="requests a key may make in any second (default: %(default)s)",
        )
        add(
            "--batch-seconds",
            type=seconds,
            default=2.0,
            metavar="SECONDS",
            help="how long a batch takes to be COMPLETE (default: %(default)s)",
        )
        add(
            "--fail",
            type=percentage,
            default=0.0,
            metavar="PERCENT",
            help="how many requests meet random trouble (default: none)",
        )
        add(
            "--errors-in",
            choices=["details", "errors", "nowhere"],
            default="details",
            help="where the answer to invalid records says what is wrong (default: %(default)s)",
        )
        add("--strict", action="store_true", help="refuse a whole request for one invalid record")
        add("--quiet", action="store_true", help="no line for each request")

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve until SIGINT or SIGTERM."""
        self._lines = threading.Lock()
        sandbox = self._sandbox(options)
        with stop_signal() as stopped, listening(sandbox):
            self._greet(sandbox, options)
            while not stopped.wait(0.5):  # in steps: an endless wait cannot be interrupted everywhere
                pass
        self._line(summary(sandbox))

    def _sandbox(self, options: dict[str, Any]) -> Sandbox:
        keys = options["keys"] or [DEFAULT_KEY]
        try:
            return Sandbox(
                options["host"],
                options["port"],
                contract=options["contract"],
                keys={key: ApiKey() for key in keys},
                rate_limit=options["rate_limit"],
                batch_seconds=options["batch_seconds"],
                fail_percent=options["fail"],
                errors_in=options["errors_in"],
                strict=options["strict"],
                keep_records=False,  # nobody can ask for them here, and a demo may send millions
                on_event=None if options["quiet"] else lambda arrival: self._line(line_of(arrival)),
            )
        except SandboxUnavailable as error:
            raise CommandError(str(error)) from error

    def _greet(self, sandbox: Sandbox, options: dict[str, Any]) -> None:
        keys = ", ".join(masked(key) for key in options["keys"] or [DEFAULT_KEY])
        self._line(f"Evermuse sandbox ({options['contract']} contract) on {sandbox.url}, key {keys}")
        self._line("Stop with Ctrl-C.")

    def _line(self, text: str) -> None:
        with self._lines:  # requests are answered by many threads
            self.stdout.write(text)
            self.stdout.flush()


@contextmanager
def stop_signal() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; the signals' earlier meaning comes back at the end."""
    stopped = threading.Event()
    # Only the main thread of a process may ask for signals.
    numbers = STOP_SIGNALS if threading.current_thread() is threading.main_thread() else ()
    earlier = {number: signal.signal(number, lambda *received: stopped.set()) for number in numbers}
    try:
        yield stopped
    finally:
        for number, meaning in earlier.items():
            signal.signal(number, meaning)


@contextmanager
def listening(sandbox: Sandbox) -> Iterator[None]:
    """A running sandbox; CommandError where the address is taken."""
    try:
        sandbox.start()
    except OSError as error:
        raise CommandError(f"Cannot listen on {sandbox.host}:{sandbox.port}: {error}") from error
    try:
        yield
    finally:
        sandbox.stop()


def whole_number(text: str) -> int:
    """A command-line number of 1 or more."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("a whole number from 1")
    return int(text)


def seconds(text: str) -> float:
    """A command-line duration in seconds."""
    return number_between(text, 0, 86_400)


def percentage(text: str) -> float:
    """A command-line percentage."""
    return number_between(text, 0, 100)


def number_between(text: str, low: float, high: float) -> float:
    """A command-line number within bounds."""
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not low <= number <= high:
        raise argparse.ArgumentTypeError(f"a number from {low} to {high}")
    return number


def masked(key: str) -> str:
    """A key that may be shown: the built-in one is no secret, of others the first characters only."""
    if key == DEFAULT_KEY:
        return key
    shown = len(PREFIX) + 2 if key.startswith(PREFIX) else 2
    return key[: min(shown, len(key) // 2)] + "…"


def line_of(arrival: Arrival) -> str:
    """One request for a reader: time, method, path, what it brought, what became of it."""
    clock = time.strftime("%H:%M:%S", time.localtime(arrival.at))
    parts = [clock, f"{arrival.method:<4} {printable(arrival.path)}", *brought(arrival), outcome_of(arrival)]
    if arrival.key and arrival.key != DEFAULT_KEY:
        parts.append(f"key {printable(masked(arrival.key))}")
    return "  ".join(parts)


def brought(arrival: Arrival) -> list[str]:
    """What a POST brought: its type, how many records, and bytes."""
    records = [f"{printable(arrival.type) or '?'} × {arrival.records:,}"] if arrival.records else []
    return records + ([f"{arrival.size:,} bytes"] if arrival.size else [])


def outcome_of(arrival: Arrival) -> str:
    """The answer in words."""
    if arrival.status is None:
        return "connection dropped"
    return f"{arrival.status} {'  '.join(remarks(arrival))}".rstrip()


def remarks(arrival: Arrival) -> list[str]:
    """What is worth saying beside the status."""
    found = [f"{arrival.error}: {arrival.message}" if arrival.message else arrival.error]
    if arrival.method == "POST" and arrival.batch_id:
        found.append(arrival.batch_id)
    if arrival.rejected:
        found.append(f"{arrival.rejected:,} rejected")
    if arrival.replayed:
        found.append("same answer as before")
    if arrival.fault:
        found.append("on purpose")
    return [remark for remark in found if remark]


def printable(text: str) -> str:
    """Text from a client without anything that could move a terminal's cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:120]


def summary(sandbox: Sandbox) -> str:
    """What happened while it ran."""
    arrivals = sandbox.arrivals
    statuses = Counter(str(arrival.status or "dropped") for arrival in arrivals)
    answers = ", ".join(f"{status} × {count:,}" for status, count in sorted(statuses.items()))
    batches = sandbox.batches()
    return (
        f"Requests: {len(arrivals):,} ({answers or 'none'}). Batches: {len(batches):,}. "
        f"Records accepted: {sum(batch.accepted for batch in batches):,}. "
        f"Identities: {len(sandbox.records()):,}. Busiest second of a key: {sandbox.worst_second()}."
    )
