"""``manage.py evermuse_sandbox``: serve a local Evermuse API and print a line for each request."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandError, CommandParser

from evermuse_outbox.management import CommandWithExamples
from evermuse_outbox.management.sandbox import SandboxClient, add_options, read_secret
from evermuse_outbox.sandbox import (
    DEFAULT_KEY,
    ApiKey,
    Arrival,
    FaultError,
    Sandbox,
    SandboxUnavailable,
    fault_from_text,
    text_to_json,
)

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
  manage.py evermuse_sandbox --fault status=503 count=3 --fault reject=id:17 message="not allowed"
      Answer the first three POSTs with 503. Reject each record with the vendor id 17.

control a sandbox that runs, from a second terminal:
  manage.py evermuse_sandbox --to http://127.0.0.1:8787 --fault status=429 seconds=10
      Answer every POST with 429 for 10 seconds, and list the faults that wait.
  manage.py evermuse_sandbox --to http://127.0.0.1:8787 --clear-faults --fail 0
      End all faults.
  manage.py evermuse_sandbox --to http://127.0.0.1:8787 --listing-scope key --refuse-keys 2
      Show each API key only its own batches, and refuse the second --key.

fields of a fault:
  status=N [message=TEXT] [retry_after=SECONDS]   answer with this status
  delay=SECONDS [after_handling=true]             wait before or after the processing
  drop=before, drop=after                         close the connection before or after the processing
  reject=3, reject=id:ID, reject='{"data.subject": "Hello"}' [message=TEXT]
                                                  reject a record by position from 0, vendor id or values
  batch_fails=true, attachments_fail=N            let the batch, or its downloads, fail later
  on=POST, GET or any; type=TYPE; product_id=ID; containing=TEXT
                                                  only these requests
  count=N, count=all, seconds=N                   how often, or how long

try it:
  curl -X POST http://127.0.0.1:8787/api/v1/ingest -H 'x-api-key: em_sk_sandbox' \\
       -H 'Content-Type: application/json' -d '{"_type": "message", "_schema_version": "1.0.0",
       "_event_at": "2026-02-24T12:34:56Z", "_vendor_ids": {"id": "1"}, "_product_id": "prod-1",
       "_project_id": "proj-1", "data": {"text": "hello"}}'
  curl http://127.0.0.1:8787/api/v1/ingest/batches -H 'x-api-key: em_sk_sandbox'
"""

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
        add_options(parser, DEFAULT_KEY)

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve requests until SIGINT or SIGTERM, then print a summary. With ``--to``, control another sandbox."""
        self._write_lock = threading.Lock()
        token = read_secret(options["control_token_file"])
        if options["to"]:
            self._control(options, token)
            return
        self._keys = options["keys"] = [
            *(options["keys"] or []),
            *map(read_secret, options["key_files"] or []),
        ]
        sandbox = self._create_sandbox(options, token)
        with stop_event() as stopped, running(sandbox):
            self._greet(sandbox, options)
            # With a timeout, because on some platforms no signal interrupts an endless wait.
            while not stopped.wait(SIGNAL_CHECK_INTERVAL):
                pass
        self._write_line(summarise(sandbox))

    def _control(self, options: dict[str, Any], token: str) -> None:
        """Change the faults of a sandbox that runs elsewhere, and print those that wait."""
        with SandboxClient(options["to"], token) as client:
            if options["clear_faults"]:
                client.clear_faults()
            if options["fail"] is not None:
                client.set_random_faults(options["fail"])
            if keys := self._keys_to_set(options):
                client.set_keys(keys)
            for assignments in options["faults"] or []:
                client.add_fault(self._read_fault(assignments))
            for line in client.describe_faults():
                self._write_line(line)

    def _keys_to_set(self, options: dict[str, Any]) -> dict[str, Any]:
        names = {"listing": "listing_scope", "idempotency": "idempotency_scope", "refused": "refuse_keys"}
        return {name: options[option] for name, option in names.items() if options[option] is not None}

    def _read_fault(self, assignments: Sequence[str]) -> dict[str, Any]:
        try:
            return text_to_json(assignments)
        except FaultError as error:
            raise CommandError(str(error)) from error

    def _create_sandbox(self, options: dict[str, Any], token: str) -> Sandbox:
        keys = options["keys"] or [DEFAULT_KEY]
        try:
            sandbox = Sandbox(
                options["host"],
                options["port"],
                contract=options["contract"],
                keys={key: ApiKey() for key in keys},
                rate_limit=options["rate_limit"],
                batch_seconds=options["batch_seconds"],
                fail_percent=options["fail"] or 0.0,
                errors_in=options["errors_in"],
                strict=options["strict"],
                keep_records=False,  # a demo may send millions: the page shows those that its history keeps
                on_event=None if options["quiet"] else self._print_arrival,
                allowed_hosts=options["allowed_hosts"] or [],
                control=True,
                control_token=token,
                history_requests=options["keep_requests"],
                history_bytes=options["keep_megabytes"] * 1_000_000,
                listing_scope=options["listing_scope"] or "workspace",
                idempotency_scope=options["idempotency_scope"] or "workspace",
            )
            for assignments in options["faults"] or []:
                sandbox.inject(fault_from_text(assignments))
        except (SandboxUnavailable, FaultError) as error:
            raise CommandError(str(error)) from error
        return sandbox

    def _greet(self, sandbox: Sandbox, options: dict[str, Any]) -> None:
        keys = f"API keys: {len(options['keys'])}" if options["keys"] else "the default API key (see --help)"
        self._write_line(f"Evermuse sandbox ({options['contract']} contract) on {sandbox.url}, {keys}")
        is_generated = sandbox.control_token and not options["control_token_file"]
        fragment = f"#token={sandbox.control_token}" if is_generated else ""
        self._write_line(f"Page with requests, records and faults: {sandbox.url}/{fragment}")
        self._write_line("Press Ctrl-C to stop.")

    def _print_arrival(self, arrival: Arrival) -> None:
        self._write_line(format_arrival(arrival, self._keys))

    def _write_line(self, text: str) -> None:
        with self._write_lock:  # because each connection has a thread, and lines must not mix
            self.stdout.write(text)
            self.stdout.flush()


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
