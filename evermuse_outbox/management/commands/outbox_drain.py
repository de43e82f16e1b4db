"""``manage.py outbox_drain``: waits until nothing is left to send or to follow."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from ...insight.status import paused_groups, record_counts, unfinished, workspaces
from ..databases import add_database, databases_of

LOOK = 0.5
"""Seconds between two looks."""


class Command(BaseCommand):
    help = (
        "Waits until nothing is left to send or to follow, with a progress bar; the sending is done by the "
        "Celery workers or by `manage.py outbox_relay`, which must be running. Exit status 0 when all is "
        "done, 1 when the time was up first."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--timeout", type=float, metavar="S", help="give up after so many seconds (default: never)"
        )
        add_database(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        databases = databases_of(options)
        timeout = options["timeout"]
        deadline = time.monotonic() + timeout if timeout is not None else float("inf")
        left = _sum(unfinished, databases)
        with tqdm(total=_records(left), unit=" records", disable=None, file=sys.stderr) as bar:
            while any(left.values()):
                if time.monotonic() > deadline:
                    raise CommandError(self._given_up(databases, left, timeout))
                self._show(bar, left)
                time.sleep(LOOK)
                left = _sum(unfinished, databases)
            self._show(bar, left)
        self._summary(_sum(record_counts, databases))

    def _show(self, bar: tqdm[Any], left: dict[str, int]) -> None:
        # Hosts may enqueue while we wait: the whole grows with what is left.
        bar.total = max(bar.total or 0, _records(left))
        bar.n = bar.total - _records(left)
        bar.set_postfix({"batches followed": left["followed"]}, refresh=False)
        bar.refresh()

    def _given_up(self, databases: Sequence[str], left: dict[str, int], timeout: float) -> str:
        told_by = [item for using in databases for item in workspaces(using).items()]
        held = [f"{name}: {told['reason']}" for name, told in told_by if "reason" in told]
        paused = [told for using in databases for told in paused_groups(using)]
        held += [f"group {told['type']} · {told['product_id']}: {told['reason']}" for told in paused]
        why = (
            f" Held: {'; '.join(held)}."
            if held
            else " Is a worker running (celery worker -B, or outbox_relay)?"
        )
        return (
            f"Not drained after {timeout:g} s: {left['pending']:,} records pending, "
            f"{left['unsent']:,} sealed and unsent, {left['followed']:,} batches followed.{why}"
        )

    def _summary(self, counts: dict[str, int]) -> None:
        told = ", ".join(f"{count:,} {state}" for state, count in counts.items() if count)
        self.stdout.write(self.style.SUCCESS(f"Drained: {told or 'the outbox is empty'}."))
        if counts["rejected"]:
            self.stdout.write(
                f"{counts['rejected']:,} rejected records wait for a person: see them in the admin, "
                "filter 'rejected'."
            )


def _records(left: dict[str, int]) -> int:
    return left["pending"] + left["unsent"] + left["accepted"]


def _sum(count: Callable[[str], dict[str, int]], databases: Sequence[str]) -> dict[str, int]:
    counted = [count(using) for using in databases]
    return {name: sum(one[name] for one in counted) for name in counted[0]}
