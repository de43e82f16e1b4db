"""``manage.py outbox_status``: show the figures of the outbox, check whether it is healthy, or explain one record."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections import Counter
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError
from django.template.defaultfilters import filesizeformat

from ...delivery.context import statement_deadlines
from ...insight import (
    Overview,
    Problem,
    collect_overview,
    collect_status,
    explain_record,
    find_problems,
    format_time,
    to_json,
)
from ...models import BatchState, OutboxRecord, RecordState, WorkspaceState
from ...monitoring import CLOCK_NAMES, describe_drift, describe_versions, is_drifting
from .. import (
    CommandWithExamples,
    add_single_database,
    database_of,
)

BAR_LENGTH = 40
"""Characters of the longest bar."""

FAILED = 1
"""Exit status of ``--check`` if something is wrong."""

MIN_ROWS = 1_000
"""Rows and dead rows below which a table is not shown, because its size does not matter yet."""


class Command(CommandWithExamples):
    help = (
        "Show how many records and batches are in each state, and the age of the oldest record that is not sent. "
        "Show which workspaces and groups are paused, and why, and the figures of the overview page. With --record, "
        "explain the state of one record. With --check, say only what is wrong. "
        "The exit status of --check is 0 if nothing is wrong, 1 if something is wrong or the database does not answer, "
        "and 2 if the options are wrong. Wrong means: no worker was seen for 3 minutes, a workspace is paused, held or "
        "without credits, a group is paused, or a pending record waits for longer than --max-lag."
    )

    examples = (
        "examples:\n"
        "  manage.py outbox_status                    show a table\n"
        "  manage.py outbox_status --json             print the same as JSON, for monitoring\n"
        "  manage.py outbox_status --overview         show what is wrong, the workers and the traffic: fast\n"
        "  manage.py outbox_status --check            end with status 1 if something is wrong, for cron\n"
        "  manage.py outbox_status --check --json --max-lag 60\n"
        "                                             the same as JSON, with another limit\n"
        "  manage.py outbox_status --record 17        explain record 17: what happens next, and when\n"
        "  manage.py outbox_status --database other   show the outbox in another database\n"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument(
            "--overview",
            action="store_true",
            help="show only the figures of the overview page, which do not take longer on a large table",
        )
        parser.add_argument("--check", action="store_true", help="end with status 1 if something is wrong")
        parser.add_argument(
            "--max-lag",
            type=_positive_seconds,
            metavar="SECONDS",
            help="highest age of a pending record that is not wrong (default: the setting MAX_LAG)",
        )
        parser.add_argument("--record", type=int, metavar="ID", help="explain the state of this record")
        add_single_database(parser)

    @statement_deadlines()
    def handle(self, *args: Any, **options: Any) -> None:
        using = database_of(options)
        if options["record"] is not None:
            self.stdout.write(self._explain(using, options["record"]))
        elif options["check"]:
            self._check(using, options["max_lag"], as_json=options["json"])
        elif options["overview"]:
            self._show_overview(collect_overview(using), as_json=options["json"])
        elif options["json"]:
            self.stdout.write(json.dumps(collect_status(using)))
        else:
            self._print_table(using, collect_status(using))

    def _check(self, using: str, max_lag: float | None, *, as_json: bool) -> None:
        """Write what is wrong. End with exit status 1 if it disturbs the delivery."""
        problems = find_problems(using, max_lag)
        is_healthy = not any(problem.is_failure for problem in problems)
        if as_json:
            self.stdout.write(
                json.dumps({"is_healthy": is_healthy, "problems": [to_json(problem) for problem in problems]})
            )
        else:
            self._print_problems(problems)
        if not is_healthy:
            sys.exit(FAILED)

    def _show_overview(self, overview: Overview, *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(overview.to_json()))
        else:
            self._print_problems(overview.problems)
            self._print_overview(overview.to_json())

    def _print_problems(self, problems: list[Problem]) -> None:
        if not any(problem.is_failure for problem in problems):
            self.stdout.write("Nothing disturbs the delivery.", self.style.SUCCESS)
        for problem in problems:
            since = f" since {format_time(problem.since)}" if problem.since else ""
            style = self.style.ERROR if problem.is_failure else self.style.WARNING
            self.stdout.write(f"{problem.title}{since}. {problem.explanation}", style)

    def _explain(self, using: str, pk: int) -> str:
        record = OutboxRecord.objects.using(using).filter(pk=pk).first()
        if record is None:
            raise CommandError(f"No record {pk} in the database {using!r}; it may have been purged.")
        return f"{record} is {record.get_state_display()}. {explain_record(record)}"

    def _print_table(self, using: str, figures: dict[str, Any]) -> None:
        self._print_problems(find_problems(using))
        for title, states in (("records", RecordState), ("batches", BatchState)):
            self.stdout.write(title.capitalize(), self.style.MIGRATE_HEADING)
            highest = max(figures[title].values()) or 1
            for state, count in figures[title].items():
                bar = "█" * (-(-count * BAR_LENGTH // highest))  # rounded up, so that one record is visible
                self.stdout.write(f"  {states(state).label:<11}{count:>12,}  {bar}")
        age = figures["oldest_unsent_seconds"]
        self.stdout.write(f"Oldest unsent record: {'none' if age is None else f'{age:,.1f} s'}")
        self._print_workspaces(figures["workspaces"])
        self._print_overview(figures["overview"])
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

    def _print_overview(self, overview: dict[str, Any]) -> None:
        workers = overview["workers"]
        self.stdout.write(f"Workers seen in the last 3 minutes: {workers['at_work']:,}")
        versions = Counter(row["version"] for row in workers["processes"] if row["is_at_work"])
        if len(versions) > 1:
            self.stdout.write(f"{len(versions)} versions at work: {describe_versions(versions)}")
        for row in overview["workspaces"]:
            self.stdout.write(f"Traffic of {row['name']}: {_describe_traffic(row)}")
        for run in overview["runs"]:
            self.stdout.write(
                f"Run #{run['id']}, {run['name']}, is {run['state']}: {run['ended']:,} of {run['total']:,} records "
                f"have ended, {run['rejected']:,} rejected. See: manage.py outbox_run {run['id']}"
            )
        for group in overview["rejections"]["groups"]:
            self.stdout.write(
                f"Rejected: {group['count']:,} records of {group['type']} · {group['product_id']}, "
                f"for example #{group['example']}: {group['message']}",
                self.style.WARNING,
            )

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


def _describe_traffic(row: dict[str, Any]) -> str:
    """Return the figures of the last minute and of the last hour in words."""
    drained = row["drained_in_seconds"]
    delivered = sum(row["delivered_by_minute"])
    doubt = row["in_flight"].get("in_doubt", {"batches": 0})["batches"]
    return (
        f"last minute {row['records_last_minute']:,} records accepted, {row['limit_used']:.0%} of the rate limit used; "
        f"last hour {delivered:,} records delivered, {row['attachments_failed']:,} attachments failed; "
        f"now {doubt:,} batches in doubt, {row['attachments_in_progress']:,} attachments in progress, "
        f"drained in {'an unknown time' if drained is None else f'{drained:,.0f} s'}"
    )


def _positive_seconds(text: str) -> float:
    """Return the value of ``--max-lag``."""
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ArgumentTypeError("must be a positive number of seconds")
    return seconds


def _describe_sizes(sizes: dict[str, Any]) -> str:
    share = sizes["dead_rows"] / (sizes["rows"] + sizes["dead_rows"])
    return (
        f"about {sizes['rows']:,} rows and {sizes['dead_rows']:,} dead rows ({share:.0%}), "
        f"{filesizeformat(sizes['bytes'])}, last vacuum {sizes['vacuumed_at'] or 'never'}"
    )
