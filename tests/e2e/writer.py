"""A process of the host that writes versions of a few identities, and rolls back half of its transactions.

``python -m tests.e2e.writer SEED`` writes until SIGTERM. It prints each committed version: id of the record, number of
the identity, and text.
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

IDENTITIES = 60


class RolledBack(Exception):
    """Rolls a transaction of the host back."""


def write(rng: random.Random, name: str) -> list[tuple[int, int, str]]:
    """Write versions in two groups in one transaction. An identity may occur twice."""
    written = []
    with transaction.atomic():
        for index in range(rng.randrange(1, 8)):
            number, text = rng.randrange(IDENTITIES), f"{name}-{index}"
            changes = {"_product_id": rng.choice(["prod-a", "prod-b"]), "data": {"text": text}}
            row = outbox.enqueue(record(number, **changes))
            written.append((row.pk, number, text))
        if rng.random() < 0.5:
            raise RolledBack
    return written


def main(seed: int) -> None:
    """Write transactions at random times until SIGTERM."""
    stop, rng, count = threading.Event(), random.Random(seed), 0
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    while not stop.wait(rng.random() * 0.2):
        count += 1
        try:
            for version in write(rng, f"{seed}-{count}"):
                print(*version, flush=True)  # noqa: T201
        except RolledBack:
            pass


main(int(sys.argv[1]))
