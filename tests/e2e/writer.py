"""A host's process that writes versions of few identities, and rolls half of its transactions back.

``python -m tests.e2e.writer SEED`` writes until SIGTERM, and prints each committed version: its record's id,
number and text.
"""

from __future__ import annotations

import random
import signal
import sys
import threading

import django

django.setup()

from django.db import transaction  # noqa: E402

from evermuse_outbox import outbox  # noqa: E402
from tests.records import record  # noqa: E402

NUMBERS = 60


class Undone(Exception):
    """The host changed its mind."""


def write(rng: random.Random, name: str) -> list[tuple[int, int, str]]:
    """One transaction: versions in two groups, some of the same identity twice."""
    written = []
    with transaction.atomic():
        for turn in range(rng.randrange(1, 8)):
            number, text = rng.randrange(NUMBERS), f"{name}-{turn}"
            changes = {"_product_id": rng.choice(["prod-a", "prod-b"]), "data": {"text": text}}
            row = outbox.enqueue(record(number, **changes))
            written.append((row.pk, number, text))
        if rng.random() < 0.5:
            raise Undone
    return written


def main(seed: int) -> None:
    stop, rng, count = threading.Event(), random.Random(seed), 0
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    while not stop.wait(rng.random() * 0.2):
        count += 1
        try:
            for version in write(rng, f"{seed}-{count}"):
                print(*version, flush=True)  # noqa: T201
        except Undone:
            pass


main(int(sys.argv[1]))
