"""``manage.py outbox_run``: list the runs, show how far one is, wait for its end, or close it."""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from tqdm import tqdm

from ...delivery.connections import release_connections, share_connections
from ...delivery.context import statement_deadlines
from ...insight import format_time
from ...models import Decision, OutboxRun, RecordState
from ...operations import NotPossible, close_run
from ...runs import RunStatus, read_status
from .. import (
    USAGE,
    CommandWithExamples,
    add_reason,
    add_single_database,
    database_of,
)
from ..runs import find_run_id

NEEDS_PERSON, TIMED_OUT, INTERRUPTED = 3, 4, 130
"""Exit statuses of a finished run with rejected records, of a wait that ended early, and after Ctrl-C."""

CHECK_INTERVAL = 1.0
"""Seconds between two counts of a run; longer if a count takes longer than a twentieth of it."""

MAX_LISTED = 20
"""Runs that are listed: the open ones first, then the latest."""

BAR_LENGTH = 30
"""Characters of a bar."""


class Command(CommandWithExamples):
    help = (
        "Show runs: records that belong together, such as those of one import. Without a name, list the runs that are "
        "not finished, and the latest others. With a name or a number, count the records of this run by state. "
        "The exit status is 0 if nothing is wrong, 1 after an error, and 2 if there is no such run. It is 3 if the run "
        "is finished and records of it are rejected, 4 after --timeout, and 130 after Ctrl-C."
    )

    examples = (
        "examples:\n"
        "  manage.py outbox_run                       list the runs\n"
        "  manage.py outbox_run nightly               show the latest run of this name\n"
        "  manage.py outbox_run 17 --json             print run 17 as JSON\n"
        "  manage.py outbox_run nightly --wait --timeout 3600\n"
        "                                             wait until it is finished, for an hour at most\n"
        "  manage.py outbox_run nightly --close --reason 'the import was given up'\n"
        "                                             no more records will join it\n"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("run", nargs="?", metavar="NAME", help="name or number of a run")
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument("--wait", action="store_true", help="wait until the run is finished")
        parser.add_argument(
            "--timeout", type=float, metavar="SECONDS", help="with --wait: for how long (default: for ever)"
        )
        parser.add_argument(
            "--close", action="store_true", help="close the run: no more records will join it"
        )
        parser.add_argument("--workspace", metavar="NAME", help="only runs of this workspace")
        add_reason(parser)
        add_single_database(parser)

    @statement_deadlines()
    @share_connections()
    def handle(self, *args: Any, **options: Any) -> None:
        using = database_of(options)
        if options["run"] is None:
            if options["wait"] or options["close"]:
                raise CommandError("Which run? Add its name or number.", returncode=USAGE)
            self._list(using, options)
            return
        row = _find(using, options["run"], options["workspace"])
        if options["close"]:
            self._close(row, options)
            row.refresh_from_db(using=using)
        status = self._wait(using, row, options) if options["wait"] else read_status(using, row)
        self._show(row, status, as_json=options["json"])
        if status.is_finished and status.rejected:
            sys.exit(NEEDS_PERSON)
        if options["wait"] and not status.is_finished:
            sys.exit(TIMED_OUT)

    def _close(self, row: OutboxRun, options: dict[str, Any]) -> None:
        try:
            close_run(str(row._state.db), row.pk, Decision(reason=options["reason"]))
        except NotPossible as error:
            raise CommandError(error.message) from error

    def _list(self, using: str, options: dict[str, Any]) -> None:
        rows = OutboxRun.objects.using(using).unfinished_first()
        if options["workspace"]:
            rows = rows.filter(workspace=options["workspace"])
        shown = [(row, read_status(using, row)) for row in rows[:MAX_LISTED]]
        if options["json"]:
            self.stdout.write(json.dumps({"runs": [_to_json(row, status) for row, status in shown]}))
            return
        if not shown:
            self.stdout.write("There is no run. An import, a backfill or outbox.start_run() makes one.")
        for row, status in shown:
            self.stdout.write(
                f"#{row.pk:<6}{_bar(status)}  {status.state:<9}  {row.name}: {_describe(status)}"
            )

    def _show(self, row: OutboxRun, status: RunStatus, *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(_to_json(row, status)))
            return
        self.stdout.write(
            f"Run #{row.pk}, {row.name}, in workspace {row.workspace}", self.style.MIGRATE_HEADING
        )
        self.stdout.write(f"  {_bar(status)} {_describe(status)}")
        for state, count in status.counts.items():
            if count:
                self.stdout.write(f"  {RecordState(state).label:<11}{count:>12,}")
        if row.labels:
            self.stdout.write(
                f"  labels: {', '.join(f'{name}={value}' for name, value in row.labels.items())}"
            )
        self.stdout.write(f"  started {format_time(row.started_at)}; {_explain(row, status)}")

    def _wait(self, using: str, row: OutboxRun, options: dict[str, Any]) -> RunStatus:
        """Wait until the run is finished or the time is up; return its status."""
        deadline = time.monotonic() + (float("inf") if options["timeout"] is None else options["timeout"])
        try:
            with tqdm(unit=" records", disable=None, file=sys.stderr) as bar:
                while True:
                    started = time.monotonic()
                    status = read_status(using, row)
                    bar.total, bar.n = max(status.total, status.expected or 0), status.ended
                    bar.refresh()
                    if status.is_finished or time.monotonic() >= deadline:
                        return status
                    took = time.monotonic() - started
                    release_connections()
                    time.sleep(max(CHECK_INTERVAL, 20 * took))
                    row.refresh_from_db(using=using)
        except KeyboardInterrupt:
            raise CommandError("Interrupted. The run goes on.", returncode=INTERRUPTED) from None


def _find(using: str, name: str, workspace: str | None) -> OutboxRun:
    pk = find_run_id(using, name, workspace)
    if pk is None:
        raise CommandError(f"There is no run {name!r} in the database {using}.", returncode=USAGE)
    return OutboxRun.objects.using(using).get(pk=pk)


def _bar(status: RunStatus) -> str:
    full = int(status.progress * BAR_LENGTH)
    return f"[{'█' * full}{'·' * (BAR_LENGTH - full)}] {status.progress:>4.0%}"


def _describe(status: RunStatus) -> str:
    expected = f" of {status.expected:,} expected" if status.expected else ""
    rejected = f", {status.rejected:,} rejected" if status.rejected else ""
    return f"{status.ended:,} of {status.total:,}{expected} records have ended{rejected}"


def _explain(row: OutboxRun, status: RunStatus) -> str:
    """Return what happens next, and what ends it."""
    if status.is_clean:
        return "finished without failures"
    if status.is_finished:
        return f"finished, with rejected records: manage.py outbox_retry --run {row.pk}, outbox_fix or outbox_discard"
    if status.closed_at is None:
        return f"open: records may still join it; if none will: manage.py outbox_run {row.pk} --close"
    return "closed: it is finished when the other records have ended"


def _to_json(row: OutboxRun, status: RunStatus) -> dict[str, Any]:
    times = {name: getattr(row, name) for name in ("started_at", "closed_at", "finished_at")}
    return {
        "id": row.pk,
        "name": row.name,
        "workspace": row.workspace,
        "labels": row.labels,
        "state": status.state,
        "counts": status.counts,
        "total": status.total,
        "expected": status.expected,
        "progress": round(status.progress, 4),
        "is_finished": status.is_finished,
        "is_clean": status.is_clean,
        **{name: at.isoformat() if at else None for name, at in times.items()},
    }
