"""``manage.py outbox_status``: where the records are, and why one of them is there."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.db import connections
from django.template.defaultfilters import filesizeformat

from ...conf import get_settings
from ...insight.explain import explain_record
from ...insight.status import status
from ...models import OutboxRecord
from ..help_with_examples import CommandWithExamples

BAR = 40
MANY = 1_000
"""Rows from which on it matters how a table is kept."""


class Command(CommandWithExamples):
    help = (
        "Shows how many records and batches are in each state, how old the oldest unsent record is, and "
        "what holds a workspace back."
    )

    examples = (
        "examples:\n"
        "  manage.py outbox_status              a table for people\n"
        "  manage.py outbox_status --json       the same for monitors\n"
        "  manage.py outbox_status --record 17  why record 17 is where it is\n"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument("--record", type=int, metavar="ID", help="explain one record")
        parser.add_argument(
            "--database",
            choices=tuple(connections),
            help="database alias (default: the first of DATABASES)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        using = options["database"] or get_settings().databases[0]
        if options["record"] is not None:
            self.stdout.write(self._why(using, options["record"]))
        elif options["json"]:
            self.stdout.write(json.dumps(status(using)))
        else:
            self._table(status(using))

    def _why(self, using: str, pk: int) -> str:
        record = OutboxRecord.objects.using(using).filter(pk=pk).first()
        if record is None:
            raise CommandError(f"No record {pk} in the database {using!r}; it may have been purged.")
        return f"{record} is {record.get_state_display()}. {explain_record(record)}"

    def _table(self, figures: dict[str, Any]) -> None:
        for title in ("records", "batches"):
            self.stdout.write(self.style.MIGRATE_HEADING(title.capitalize()))
            most = max(figures[title].values()) or 1
            for state, count in figures[title].items():
                bar = "█" * (-(-count * BAR // most))
                self.stdout.write(f"  {state:<11}{count:>12,}  {bar}")
        age = figures["oldest_unsent_seconds"]
        self.stdout.write(f"Oldest unsent record: {'none' if age is None else f'{age:,.1f} s'}")
        self._workspaces(figures)
        for table, told in figures["tables"].items():
            if told["rows"] + told["dead_rows"] >= MANY:
                self.stdout.write(f"Table {table}: {_in_words(told)}")

    def _workspaces(self, figures: dict[str, Any]) -> None:
        for name, told in figures["workspaces"].items():
            held = f" until {told['blocked_until']}: {told['reason']}" if "reason" in told else ""
            self.stdout.write(f"Workspace {name}: {told['state']}{held}")
        for told in figures["paused_groups"]:
            group = f"{told['type']} · {told['product_id']} (workspace {told['workspace']})"
            self.stdout.write(self.style.WARNING(f"Group {group} is paused: {told['reason']}"))
            self.stdout.write(f"  {told['advice']}")


def _in_words(table: dict[str, Any]) -> str:
    share = table["dead_rows"] / (table["rows"] + table["dead_rows"])
    return (
        f"about {table['rows']:,} rows and {table['dead_rows']:,} dead ones ({share:.0%}), "
        f"{filesizeformat(table['bytes'])}, last vacuum {table['vacuumed_at'] or 'never'}"
    )
