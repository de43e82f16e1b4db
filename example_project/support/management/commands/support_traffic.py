"""``manage.py support_traffic``: write generated conversations to the support desk."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from example_project.support.traffic import visits


class Command(BaseCommand):
    """Write generated conversations."""

    help = (
        "Write generated conversations to the support desk. Each message is written in its own transaction."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument(
            "--conversations",
            type=int,
            default=20,
            metavar="N",
            help="number of conversations (default: %(default)s)",
        )
        parser.add_argument(
            "--messages",
            type=int,
            default=5,
            metavar="N",
            help="messages in each conversation (default: %(default)s)",
        )
        parser.add_argument(
            "--seed",
            type=int,
            default=1,
            metavar="N",
            help="seed of the random generator; the same seed gives the same texts (default: %(default)s)",
        )
        parser.add_argument(
            "--rate", type=float, metavar="N", help="messages per second (default: as fast as possible)"
        )
        parser.add_argument(
            "--rollback",
            type=float,
            default=0,
            metavar="PERCENT",
            help="share of the transactions to roll back on purpose, 0 to 100 (default: %(default)s)",
        )
        parser.add_argument("--no-progress", action="store_true", help="show no progress bar")

    def handle(
        self, *, conversations: int, messages: int, rate: float | None, no_progress: bool, **options: Any
    ) -> None:
        """Write the conversations and print the counts."""
        _check(conversations, messages, rate, options["rollback"])
        steps = visits(
            conversations=conversations, messages=messages, seed=options["seed"], rollback=options["rollback"]
        )
        outcomes: Counter[bool] = Counter()
        total, started = conversations * messages, time.monotonic()
        for committed in tqdm(steps, total=total, unit="message", disable=True if no_progress else None):
            outcomes[committed] += 1
            _wait_for_next(outcomes.total(), rate, started)
        self.stdout.write(f"{outcomes[True]:,} messages written, {outcomes[False]:,} rolled back on purpose.")


def _check(conversations: int, messages: int, rate: float | None, rollback: float) -> None:
    if conversations < 1 or messages < 1:
        raise CommandError("--conversations and --messages must be at least 1.")
    if rate is not None and not rate > 0:
        raise CommandError("--rate must be above 0.")
    if not 0 <= rollback <= 100:
        raise CommandError("--rollback must be between 0 and 100.")


def _wait_for_next(written: int, rate: float | None, started: float) -> None:
    """Sleep until the next message is due."""
    if rate is not None:
        time.sleep(max(0.0, started + written / rate - time.monotonic()))
