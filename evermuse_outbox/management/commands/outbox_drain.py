"""``manage.py outbox_drain``: wait until all records are sent and all batches are finished."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from typing import Any

from django.core.management.base import CommandError
from tqdm import tqdm

from ...delivery.connections import release_connections, share_connections
from ...delivery.context import statement_deadlines
from ...insight import count_records, count_unfinished, missing_workspaces, paused_groups, workspace_states
from .. import CommandWithExamples, add_database, databases_of

CHECK_INTERVAL = 0.5
"""Seconds between two counts of the records that are left."""


class Command(CommandWithExamples):
    help = (
        "Wait until all records are sent and Evermuse has finished all batches, and show a progress bar. This "
        "command sends nothing: Celery workers or `manage.py outbox_relay` must be running. The exit status is 0 "
        "if the outbox is drained, and 1 after the timeout."
    )

    examples = (
        "examples:\n"
        "  manage.py outbox_drain                     wait as long as it takes\n"
        "  manage.py outbox_drain --timeout 600       fail after ten minutes, and say what is left and why\n"
        "  manage.py outbox_drain && ./deploy         deploy only when nothing is left\n"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--timeout", type=float, metavar="SECONDS", help="fail after this time (default: never)"
        )
        add_database(parser)

    @statement_deadlines()
    @share_connections()
    def handle(self, *args: Any, **options: Any) -> None:
        databases = databases_of(options)
        timeout = options["timeout"]
        deadline = time.monotonic() + timeout if timeout is not None else float("inf")
        left = _add_up(count_unfinished, databases)
        with tqdm(total=_records_in(left), unit=" records", disable=None, file=sys.stderr) as bar:
            while any(left.values()):
                if time.monotonic() > deadline:
                    raise CommandError(_describe_rest(databases, left, timeout))
                _update_bar(bar, left)
                release_connections()
                time.sleep(CHECK_INTERVAL)
                left = _add_up(count_unfinished, databases)
            _update_bar(bar, left)
        self._print_summary(_add_up(count_records, databases))

    def _print_summary(self, counts: dict[str, int]) -> None:
        summary = ", ".join(f"{count:,} {state}" for state, count in counts.items() if count)
        self.stdout.write(f"Drained: {summary or 'the outbox is empty'}.", self.style.SUCCESS)
        if counts["rejected"]:
            records = "record needs" if counts["rejected"] == 1 else "records need"
            self.stdout.write(
                f"{counts['rejected']:,} rejected {records} a decision: see the admin, Records, filter 'rejected'."
            )


def _update_bar(bar: tqdm[Any], left: dict[str, int]) -> None:
    # The host can enqueue records meanwhile, so the total can grow.
    bar.total = max(bar.total or 0, _records_in(left))
    bar.n = bar.total - _records_in(left)
    bar.set_postfix({"batches to poll": left["to_poll"]}, refresh=False)
    bar.refresh()


def _describe_rest(databases: Sequence[str], left: dict[str, int], timeout: float) -> str:
    """Return an error message: what is left after ``timeout`` seconds, and what blocks it."""
    reasons = _find_reasons(databases)
    why = (
        f"Blocked: {'; '.join(reason.removesuffix('.') for reason in reasons)}."
        if reasons
        else "Is a worker running (celery worker -B, or manage.py outbox_relay)?"
    )
    return (
        f"Not drained after {timeout:g} s: {left['pending']:,} records pending, "
        f"{left['unsent']:,} records sealed but not sent, {left['to_poll']:,} batches not finished by Evermuse. {why}"
    )


def _find_reasons(databases: Sequence[str]) -> list[str]:
    """Return a text for each workspace and each group that does not send, with the reason."""
    reasons = []
    for using in databases:
        for name, workspace in workspace_states(using).items():
            if "reason" in workspace:
                reasons.append(f"workspace {name}: {workspace['reason']}")
        for name in missing_workspaces(using):
            reasons.append(f"workspace {name}: it is not in the settings, see outbox_status")
        for group in paused_groups(using):
            reasons.append(f"group {group['type']} · {group['product_id']}: {group['reason']}")
    return reasons


def _records_in(left: dict[str, int]) -> int:
    return left["pending"] + left["unsent"] + left["accepted"]


def _add_up(count: Callable[[str], dict[str, int]], databases: Sequence[str]) -> dict[str, int]:
    """Return for each name the sum of its counts in all databases."""
    counts = [count(using) for using in databases]
    return {name: sum(in_database[name] for in_database in counts) for name in counts[0]}
