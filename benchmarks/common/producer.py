"""A host that enqueues at a steady pace: ``python -m benchmarks.common.producer RATE SECONDS WORKSPACE…``.

Each tenth of a second it opens a transaction and calls ``enqueue_many`` with a tenth of RATE records, for the
workspaces in turn. Prints a line of JSON a second: the records enqueued so far, and the seconds since the start, in
``enqueue_many``, and of CPU.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import cycle

from .records import records

BEAT = 0.1
"""Seconds between two transactions."""


def main(rate: int, seconds: float, workspaces: list[str]) -> None:
    """Enqueues; where it cannot keep up it says so by the times that it prints."""
    import django

    django.setup()
    from django.db import transaction

    from evermuse_outbox import outbox

    some = round(rate * BEAT)
    turns = cycle(workspaces)
    started, enqueued, spent, told = time.monotonic(), 0, 0.0, 0.0
    while (passed := time.monotonic() - started) < seconds:
        begun = time.monotonic()
        with transaction.atomic():
            enqueued += outbox.enqueue_many(records(some, first=enqueued), workspace=next(turns))
        spent += time.monotonic() - begun
        if passed - told >= 1:
            told = passed
            print(json.dumps([enqueued, passed, spent, time.process_time()]), flush=True)
        time.sleep(max(0.0, started + enqueued / rate - time.monotonic()))
    print(json.dumps([enqueued, time.monotonic() - started, spent, time.process_time()]), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
