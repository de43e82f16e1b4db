"""``manage.py outbox_status``: show the number of records in each state, or explain one record."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError
from django.db import connections
from django.template.defaultfilters import filesizeformat

from ...conf import get_settings
from ...delivery.context import statement_deadlines
from ...insight import collect_status, explain_record, format_time
from ...models import BatchState, OutboxRecord, RecordState, WorkspaceState
from ...monitoring import CLOCK_NAMES, describe_drift, is_drifting
from .. import CommandWithExamples

BAR_LENGTH = 40
"""Characters of the longest bar."""

MIN_ROWS = 1_000
"""Rows and dead rows below which a table is not shown, because its size does not matter yet."""


class Command(CommandWithExamples):
    help = (
        "Show how many records and batches are in each state, and the age of the oldest record that is not sent. "
        "Show which workspaces and groups are paused, and why. With --record, explain the state of one record."
    )

    examples = (
        "examples:\n"
        "  manage.py outbox_status                    show a table\n"
        "  manage.py outbox_status --json             print the same as JSON, for monitoring\n"
        "  manage.py outbox_status --record 17        explain record 17: what happens next, and when\n"
        "  manage.py outbox_status --database other   show the outbox in another database\n"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument("--record", type=int, metavar="ID", help="explain the state of this record")
        parser.add_argument(
            "--database",
            choices=tuple(connections),
            help="database alias (default: the first in the setting DATABASES)",
        )

    @statement_deadlines()
    def handle(self, *args: Any, **options: Any) -> None:
        using = options["database"] or get_settings().databases[0]
        if options["record"] is not None:
            self.stdout.write(self._explain(using, options["record"]))
        elif options["json"]:
            self.stdout.write(json.dumps(collect_status(using)))
        else:
            self._print_table(using, collect_status(using))

    def _explain(self, using: str, pk: int) -> str:
        record = OutboxRecord.objects.using(using).filter(pk=pk).first()
        if record is None:
            raise CommandError(f"No record {pk} in the database {using!r}; it may have been purged.")
        return f"{record} is {record.get_state_display()}. {explain_record(record)}"

    def _print_table(self, using: str, figures: dict[str, Any]) -> None:
        for title, states in (("records", RecordState), ("batches", BatchState)):
            self.stdout.write(title.capitalize(), self.style.MIGRATE_HEADING)
            highest = max(figures[title].values()) or 1
            for state, count in figures[title].items():
                bar = "█" * (-(-count * BAR_LENGTH // highest))  # rounded up, so that one record is visible
                self.stdout.write(f"  {states(state).label:<11}{count:>12,}  {bar}")
        age = figures["oldest_unsent_seconds"]
        self.stdout.write(f"Oldest unsent record: {'none' if age is None else f'{age:,.1f} s'}")
        self._print_workspaces(figures["workspaces"])
        self._print_missing(figures["missing_workspaces"])
        self._print_paused_groups(figures["paused_groups"])
        for batch in figures["waiting_batches"]:
            text = f"Batch #{batch['id']} ({batch['records']:,} records) {BatchState(batch['state']).label}"
            self.stdout.write(f"{text}: {batch['explanation']}", self.style.WARNING)
        self._print_clocks(using, figures["clocks"])
        for table, sizes in figures["tables"].items():
            if sizes["rows"] + sizes["dead_rows"] >= MIN_ROWS:
                self.stdout.write(f"Table {table}: {_describe_sizes(sizes)}")

    def _print_workspaces(self, workspaces: dict[str, dict[str, Any]]) -> None:
        for name, workspace in workspaces.items():
            self.stdout.write(f"Workspace {name}: {_describe_workspace(workspace)}")

    def _print_clocks(self, using: str, clocks: dict[str, float | None]) -> None:
        for name, seconds in clocks.items():
            if is_drifting(seconds):
                drift = describe_drift(using, seconds or 0.0)
                self.stdout.write(f"The clock of this {CLOCK_NAMES[name]} is {drift}.", self.style.WARNING)

    def _print_missing(self, missing: dict[str, dict[str, int]]) -> None:
        for name, rows in missing.items():
            self.stdout.write(
                f"Workspace {name} is not in the settings: {rows['pending']:,} pending records and "
                f"{rows['open_batches']:,} open batches wait. Put it back into WORKSPACES, or discard them: "
                f"manage.py outbox_discard --workspace {name}",
                self.style.WARNING,
            )

    def _print_paused_groups(self, groups: list[dict[str, Any]]) -> None:
        for row in groups:
            group = f"{row['type']} · {row['product_id']} (workspace {row['workspace']})"
            self.stdout.write(f"Group {group} is paused: {row['reason']}", self.style.WARNING)
            self.stdout.write(f"  {row['advice']}")


def _describe_workspace(workspace: dict[str, Any]) -> str:
    """Return the state of a workspace in words: "active", or for instance "paused until … because: …"."""
    state = WorkspaceState(workspace["state"]).label
    if "reason" not in workspace:
        return str(state)
    at = workspace["blocked_until"]
    until = f" until {format_time(datetime.fromisoformat(at))}" if at else ""
    return f"{state}{until} because: {workspace['reason']}"


def _describe_sizes(sizes: dict[str, Any]) -> str:
    share = sizes["dead_rows"] / (sizes["rows"] + sizes["dead_rows"])
    return (
        f"about {sizes['rows']:,} rows and {sizes['dead_rows']:,} dead rows ({share:.0%}), "
        f"{filesizeformat(sizes['bytes'])}, last vacuum {sizes['vacuumed_at'] or 'never'}"
    )
