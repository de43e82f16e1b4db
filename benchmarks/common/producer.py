"""Enqueue records at a constant rate: ``python -m benchmarks.common.producer RATE SECONDS WORKSPACE…``.

RATE is in records per second. Every tenth of a second the process opens a transaction and calls ``enqueue_many`` with
RATE / 10 records, for each workspace in turn.

Once per second it prints a line of JSON with four numbers: the records enqueued so far, the seconds since the start,
the seconds spent in ``enqueue_many``, and the CPU seconds of the process.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import cycle

from .records import records

INTERVAL = 0.1
"""Seconds between two transactions."""


def main(rate: int, seconds: float, workspaces: list[str]) -> None:
    """Enqueue for that many seconds. If the process is too slow for the rate, the printed times show it."""
    import django

    django.setup()
    from django.db import transaction

    from evermuse_outbox import outbox

    count = round(rate * INTERVAL)
    next_workspace = cycle(workspaces)
    started, enqueued, spent, last_print = time.monotonic(), 0, 0.0, 0.0
    while (passed := time.monotonic() - started) < seconds:
        call_started = time.monotonic()
        with transaction.atomic():
            enqueued += outbox.enqueue_many(records(count, first=enqueued), workspace=next(next_workspace))
        spent += time.monotonic() - call_started
        if passed - last_print >= 1:
            last_print = passed
            print(json.dumps([enqueued, passed, spent, time.process_time()]), flush=True)
        time.sleep(max(0.0, started + enqueued / rate - time.monotonic()))
    print(json.dumps([enqueued, time.monotonic() - started, spent, time.process_time()]), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
