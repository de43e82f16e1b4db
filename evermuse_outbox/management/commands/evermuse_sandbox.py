"""``manage.py evermuse_sandbox``: serve a local Evermuse API and print a line for each request."""

from __future__ import annotations

import argparse
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandError, CommandParser

from evermuse_outbox.management import CommandWithExamples
from evermuse_outbox.sandbox import DEFAULT_KEY, ApiKey, Arrival, Sandbox, SandboxUnavailable

HELP = """\
Serve a local Evermuse API for development: the published endpoints with their limits, their validation and the
lifecycle of batches. It needs no database and stores nothing after it stops.
"""

EXAMPLES = """\
examples:
  manage.py evermuse_sandbox
      Listen on http://127.0.0.1:8787 and accept the API key em_sk_sandbox.
  manage.py evermuse_sandbox --contract openapi --batch-seconds 10
      Apply the stricter contract. A batch takes 10 seconds to complete.
  manage.py evermuse_sandbox --fail 20
      Answer 20 % of the requests with an error, or close their connections.

try it:
  curl -X POST http://127.0.0.1:8787/api/v1/ingest -H 'x-api-key: em_sk_sandbox' \\
       -H 'Content-Type: application/json' -d '{"_type": "message", "_schema_version": "1.0.0",
       "_event_at": "2026-02-24T12:34:56Z", "_vendor_ids": {"id": "1"}, "_product_id": "prod-1",
       "_project_id": "proj-1", "data": {"text": "hello"}}'
  curl http://127.0.0.1:8787/api/v1/ingest/batches -H 'x-api-key: em_sk_sandbox'
"""

"""Start of every API key of Evermuse, which is not secret. Source: OpenAPI document, security scheme IngestApiKey."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

SIGNAL_CHECK_INTERVAL = 0.5
"""Seconds between two checks whether a signal has arrived."""


class Command(CommandWithExamples):
    """Serve a :class:`~evermuse_outbox.sandbox.Sandbox` in the foreground."""

    help = HELP
    examples = EXAMPLES
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options, in the groups that ``--help`` shows."""
        add_server_arguments(parser)
        add_api_arguments(parser)
        add_failure_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve requests until SIGINT or SIGTERM, then print a summary."""
        self._write_lock = threading.Lock()
        self._keys = options["keys"] or []
        sandbox = self._create_sandbox(options)
        with stop_event() as stopped, running(sandbox):
            self._greet(sandbox, options)
            # With a timeout, because on some platforms no signal interrupts an endless wait.
            while not stopped.wait(SIGNAL_CHECK_INTERVAL):
                pass
        self._write_line(summarise(sandbox))

    def _create_sandbox(self, options: dict[str, Any]) -> Sandbox:
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
                keep_records=False,  # the command cannot show records, and a demo may send millions
                on_event=None if options["quiet"] else self._print_arrival,
            )
        except SandboxUnavailable as error:
            raise CommandError(str(error)) from error

    def _greet(self, sandbox: Sandbox, options: dict[str, Any]) -> None:
        keys = f"API keys: {len(options['keys'])}" if options["keys"] else "the default API key (see --help)"
        self._write_line(f"Evermuse sandbox ({options['contract']} contract) on {sandbox.url}, {keys}")
        self._write_line("Press Ctrl-C to stop.")

    def _print_arrival(self, arrival: Arrival) -> None:
        self._write_line(format_arrival(arrival, self._keys))

    def _write_line(self, text: str) -> None:
        with self._write_lock:  # because each connection has a thread, and lines must not mix
            self.stdout.write(text)
            self.stdout.flush()


# --- Options --------------------------------------------------------------------------------------


def add_server_arguments(parser: CommandParser) -> None:
    """Add the options about the server and its output."""
    group = parser.add_argument_group("server")
    group.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    group.add_argument(
        "--port", type=int, default=8787, help="port to listen on, 0 for any free port (default: %(default)s)"
    )
    group.add_argument("--quiet", action="store_true", help="print no line for each request")


def add_api_arguments(parser: CommandParser) -> None:
    """Add the options about the API and its limits."""
    group = parser.add_argument_group("API")
    group.add_argument(
        "--contract",
        choices=["reference", "openapi"],
        default="reference",
        help="published contract to apply (default: %(default)s)",
    )
    group.add_argument(
        "--key",
        action="append",
        dest="keys",
        metavar="KEY",
        help=f"API key to accept, may be repeated (default: {DEFAULT_KEY})",
    )
    group.add_argument(
        "--rate-limit",
        type=positive_integer,
        default=10,
        metavar="N",
        help="maximum requests of one API key in any second (default: %(default)s)",
    )
    group.add_argument(
        "--batch-seconds",
        type=seconds,
        default=2.0,
        metavar="SECONDS",
        help="seconds until a batch is COMPLETE (default: %(default)s)",
    )


def add_failure_arguments(parser: CommandParser) -> None:
    """Add the options about injected faults and invalid records."""
    group = parser.add_argument_group("failures")
    group.add_argument(
        "--fail",
        type=percentage,
        default=0.0,
        metavar="PERCENT",
        help="share of the requests that meet a random fault, 0 to 100 (default: none)",
    )
    group.add_argument(
        "--errors-in",
        choices=["details", "errors", "nowhere"],
        default="details",
        help="field of the error response that names the invalid records (default: %(default)s)",
    )
    group.add_argument(
        "--strict", action="store_true", help="refuse a request if one of its records is invalid"
    )


def positive_integer(text: str) -> int:
    """Parse an integer of 1 or more from the command line."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be an integer of 1 or more")
    return int(text)


def seconds(text: str) -> float:
    """Parse a duration of 0 to 86,400 seconds (a day) from the command line."""
    return parse_number(text, 0, 86_400)


def percentage(text: str) -> float:
    """Parse a percentage from 0 to 100 from the command line."""
    return parse_number(text, 0, 100)


def parse_number(text: str, low: float, high: float) -> float:
    """Parse a number from ``low`` to ``high`` from the command line.

    Raises:
        ArgumentTypeError: The text is not such a number.
    """
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not low <= number <= high:
        raise argparse.ArgumentTypeError(f"must be a number from {low} to {high}")
    return number


# --- Running --------------------------------------------------------------------------------------


@contextmanager
def stop_event() -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM set. Restore the earlier signal handlers at the end."""
    stopped = threading.Event()
    # Python allows signal handlers in the main thread only.
    numbers = STOP_SIGNALS if threading.current_thread() is threading.main_thread() else ()
    previous = {number: signal.signal(number, lambda *_: stopped.set()) for number in numbers}
    try:
        yield stopped
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def running(sandbox: Sandbox) -> Iterator[None]:
    """Start a sandbox, and stop it at the end.

    Raises:
        CommandError: The sandbox cannot listen on its address.
    """
    try:
        sandbox.start()
    except OSError as error:
        raise CommandError(f"Cannot listen on {sandbox.host}:{sandbox.port}: {error}") from error
    try:
        yield
    finally:
        sandbox.stop()


# --- Output ---------------------------------------------------------------------------------------


def format_arrival(arrival: Arrival, keys: Sequence[str] = ()) -> str:
    """Return the line for a request: local time, method, path, content, result, and which API key unless default.

    ``keys`` are those of ``--key``. No part of a key is shown, only its position.
    """
    time_of_day = time.strftime("%H:%M:%S", time.localtime(arrival.at))
    request = f"{arrival.method:<4} {make_printable(arrival.path)}"
    parts = [time_of_day, request, *describe_content(arrival), describe_result(arrival)]
    if arrival.key and arrival.key != DEFAULT_KEY:
        parts.append(f"key {keys.index(arrival.key) + 1}" if arrival.key in keys else "unknown key")
    return "  ".join(parts)


def describe_content(arrival: Arrival) -> list[str]:
    """Return the type and number of records and the size of the body, if there are any."""
    records = f"{make_printable(arrival.type) or '?'} × {arrival.records:,}" if arrival.records else ""
    size = f"{arrival.size:,} bytes" if arrival.size else ""
    return [text for text in (records, size) if text]


def describe_result(arrival: Arrival) -> str:
    """Return the status of the response and its details."""
    if arrival.status is None:
        return "connection dropped"
    details = [
        f"{arrival.error}: {arrival.message}" if arrival.message else arrival.error,
        arrival.batch_id if arrival.method == "POST" else "",
        f"{arrival.rejected:,} rejected" if arrival.rejected else "",
        "idempotent replay" if arrival.replayed else "",
        "injected fault" if arrival.fault else "",
    ]
    return f"{arrival.status} {'  '.join(filter(None, details))}".rstrip()


def make_printable(text: str) -> str:
    """Return up to 120 characters of a text from a client, without control characters for the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)[:120]


def summarise(sandbox: Sandbox) -> str:
    """Return the totals of a run as text."""
    arrivals = sandbox.arrivals
    statuses = Counter(str(arrival.status or "dropped") for arrival in arrivals)
    responses = ", ".join(f"{status} × {count:,}" for status, count in sorted(statuses.items()))
    batches = sandbox.batches()
    return (
        f"Requests: {len(arrivals):,} ({responses or 'none'}). Batches: {len(batches):,}. "
        f"Records accepted: {sum(batch.accepted for batch in batches):,}. "
        f"Identities: {len(sandbox.records()):,}. "
        f"Busiest second of an API key: {sandbox.worst_second()} requests."
    )
