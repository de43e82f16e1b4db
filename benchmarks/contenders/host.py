"""The host of a contender, run in its environment: ``python -m benchmarks.contenders.host prepare|enqueue``.

``prepare`` migrates; ``enqueue`` writes records in transactions of ten and prints what that took, as JSON.
Beside each transaction stands one of ten bare INSERTs of the same lines, so that both see the same machine.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import django
from django.core.management import call_command
from django.db import connection, transaction

from benchmarks.common.records import records

TOGETHER = 10
"""Enqueues in a transaction."""

BARE = "INSERT INTO bare (payload, enqueued_at) VALUES (%s, now())"


def main() -> None:
    options = _options()
    django.setup()
    if options.what == "prepare":
        prepare()
    else:
        times = enqueue(options.records, options.size, bare=options.bare)
        if options.more:
            _contender().enqueue_many(records(options.more, options.size, first=options.records))
        print(json.dumps(times))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("prepare", "enqueue"))
    parser.add_argument("--records", type=int, default=5_000)
    parser.add_argument("--size", type=int, default=1_500)
    parser.add_argument("--more", type=int, default=0, help="records behind them, in bulk and untimed")
    parser.add_argument("--no-bare", dest="bare", action="store_false", help="leave out the bare INSERTs")
    return parser.parse_args()


def prepare() -> None:
    """The contender's tables, and the one for the bare INSERTs."""
    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE bare (id bigserial PRIMARY KEY, payload text, enqueued_at timestamptz)")


def enqueue(count: int, size: int, *, bare: bool) -> dict[str, list[float]]:
    """Seconds of each call, and of each transaction of ten with its COMMIT and what follows it."""
    contender = _contender()
    times: dict[str, list[float]] = {
        "calls": [],
        "transactions": [],
        "bare_calls": [],
        "bare_transactions": [],
    }
    waiting = records(count, size)
    while some := [record for _, record in zip(range(TOGETHER), waiting, strict=False)]:
        if bare:
            lines = [json.dumps(record, separators=(",", ":")) for record in some]
            _transaction(_insert, lines, times["bare_calls"], times["bare_transactions"])
        _transaction(contender.enqueue, some, times["calls"], times["transactions"])
    return times


def _contender() -> Any:
    return importlib.import_module(os.environ["DJANGO_SETTINGS_MODULE"])


def _transaction(
    call: Callable[[Any], None], each: Iterable[Any], calls: list[float], transactions: list[float]
) -> None:
    started = time.perf_counter()
    with transaction.atomic():
        for one in each:
            before = time.perf_counter()
            call(one)
            calls.append(time.perf_counter() - before)
    transactions.append(time.perf_counter() - started)


def _insert(line: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(BARE, [line])


if __name__ == "__main__":
    main()
