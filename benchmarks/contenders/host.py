"""Enqueue records with a contender: ``python -m benchmarks.contenders.host prepare|enqueue|produce``.

It runs in the environment of the contender. ``prepare`` creates the tables. ``enqueue`` enqueues records in
transactions of ten, and prints the durations as JSON. Before each transaction it inserts the same ten records with
bare INSERT statements, so that both are measured under the same load of the machine. ``produce`` enqueues at a constant
rate, and prints a line of JSON for each transaction: the number of its first record, the number of records, the time of
the end of COMMIT in seconds since the epoch, and the seconds that the transaction took.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import django
from django.core.management import call_command
from django.db import connection, transaction

from benchmarks.common.records import records

RECORDS_PER_TRANSACTION = 10

BARE_INSERT = "INSERT INTO bare (payload, enqueued_at) VALUES (%s, now())"


def main() -> None:
    """Run the command that the command line names."""
    options = _options()
    django.setup()
    if options.command == "prepare":
        prepare()
    elif options.command == "produce":
        produce(options)
    else:
        times = enqueue(options.records, options.size, bare=options.bare)
        if options.more:
            _contender().enqueue_many(records(options.more, options.size, first=options.records))
        print(json.dumps(times))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("prepare", "enqueue", "produce"))
    parser.add_argument("--records", type=int, default=5_000, help="records to enqueue one by one")
    parser.add_argument("--size", type=int, default=1_500, help="size of a record in bytes")
    parser.add_argument("--more", type=int, default=0, help="further records to enqueue in bulk, not timed")
    parser.add_argument("--no-bare", dest="bare", action="store_false", help="do not run bare INSERTs")
    parser.add_argument("--first", type=int, default=0, help="number of the first record of produce")
    parser.add_argument("--rate", type=float, default=100, help="records per second of produce")
    parser.add_argument("--seconds", type=float, default=60, help="duration of produce")
    parser.add_argument("--chunk", type=int, default=10, help="records per transaction of produce")
    return parser.parse_args()


def prepare() -> None:
    """Create the tables of the contender, and a table for the bare INSERTs."""
    call_command("migrate", verbosity=0)
    if hasattr(_contender(), "prepare"):
        _contender().prepare()
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE bare (id bigserial PRIMARY KEY, payload text, enqueued_at timestamptz)")


def enqueue(count: int, size: int, *, bare: bool) -> dict[str, list[float]]:
    """Return the seconds of each call and of each transaction, COMMIT and callbacks included."""
    contender = _contender()
    times: dict[str, list[float]] = {
        "calls": [],
        "transactions": [],
        "bare_calls": [],
        "bare_transactions": [],
    }
    remaining = records(count, size)
    while chunk := list(islice(remaining, RECORDS_PER_TRANSACTION)):
        if bare:
            lines = [json.dumps(record, separators=(",", ":")) for record in chunk]
            _time_transaction(_insert, lines, times["bare_calls"], times["bare_transactions"])
        _time_transaction(contender.enqueue, chunk, times["calls"], times["transactions"])
    return times


def produce(options: argparse.Namespace) -> None:
    """Enqueue at a constant rate. If the process is too slow for the rate, it has no pause between transactions."""
    contender, enqueued, started = _contender(), 0, time.monotonic()
    while time.monotonic() - started < options.seconds:
        first = options.first + enqueued
        chunk = list(records(options.chunk, options.size, first=first))
        seconds = _time_chunk(contender, chunk)
        print(json.dumps([first, len(chunk), time.time(), seconds]), flush=True)
        enqueued += len(chunk)
        time.sleep(max(0.0, started + enqueued / options.rate - time.monotonic()))


def _time_chunk(contender: Any, chunk: list[dict[str, Any]]) -> float:
    """Return the seconds of a transaction. More than ten records are enqueued in one call."""
    if len(chunk) > RECORDS_PER_TRANSACTION:
        started = time.perf_counter()
        with transaction.atomic():
            contender.enqueue_many(chunk)
        return time.perf_counter() - started
    transactions: list[float] = []
    _time_transaction(contender.enqueue, chunk, [], transactions)
    return transactions[0]


def _contender() -> Any:
    return importlib.import_module(os.environ["DJANGO_SETTINGS_MODULE"])


def _time_transaction(
    call: Callable[[Any], None], arguments: Iterable[Any], calls: list[float], transactions: list[float]
) -> None:
    started = time.perf_counter()
    with transaction.atomic():
        for argument in arguments:
            call_started = time.perf_counter()
            call(argument)
            calls.append(time.perf_counter() - call_started)
    transactions.append(time.perf_counter() - started)


def _insert(line: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(BARE_INSERT, [line])


if __name__ == "__main__":
    main()
