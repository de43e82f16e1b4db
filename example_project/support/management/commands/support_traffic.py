"""``manage.py support_traffic``: invented visitors keep the desk busy."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from example_project.support.traffic import visits


class Command(BaseCommand):
    help = "Writes invented conversations, each message in a transaction as a visitor's request would be."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--conversations", type=int, default=20, metavar="N", help="how many visitors (20)"
        )
        parser.add_argument(
            "--messages", type=int, default=5, metavar="M", help="messages in each conversation (5)"
        )
        parser.add_argument(
            "--seed", type=int, default=1, metavar="S", help="the same seed, the same words (1)"
        )
        parser.add_argument(
            "--rate", type=float, metavar="PER_SECOND", help="messages a second (as fast as it goes)"
        )
        parser.add_argument(
            "--rollback",
            type=float,
            default=0,
            metavar="PERCENT",
            help="transactions rolled back on purpose, of which nothing may remain (0)",
        )
        parser.add_argument("--no-progress", action="store_true", help="show no progress")

    def handle(
        self, *, conversations: int, messages: int, rate: float | None, no_progress: bool, **options: Any
    ) -> None:
        _check(conversations, messages, rate, options["rollback"])
        steps = visits(
            conversations=conversations, messages=messages, seed=options["seed"], rollback=options["rollback"]
        )
        outcomes: Counter[bool] = Counter()
        total, began = conversations * messages, time.monotonic()
        for committed in tqdm(steps, total=total, unit="message", disable=True if no_progress else None):
            outcomes[committed] += 1
            _keep_pace(outcomes.total(), rate, began)
        self.stdout.write(f"{outcomes[True]:,} messages written, {outcomes[False]:,} rolled back on purpose.")


def _check(conversations: int, messages: int, rate: float | None, rollback: float) -> None:
    if conversations < 1 or messages < 1:
        raise CommandError("--conversations and --messages are at least 1.")
    if rate is not None and not rate > 0:
        raise CommandError("--rate is above 0.")
    if not 0 <= rollback <= 100:
        raise CommandError("--rollback is from 0 to 100.")


def _keep_pace(written: int, rate: float | None, began: float) -> None:
    """Sleeps until the next message is due."""
    if rate is not None:
        time.sleep(max(0.0, began + written / rate - time.monotonic()))
