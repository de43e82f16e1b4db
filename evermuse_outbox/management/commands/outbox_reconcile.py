"""``manage.py outbox_reconcile``: compare a restored database with Evermuse, and decide what is sent."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from django.conf import settings as project
from django.core.management.base import CommandError
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from tqdm import tqdm

from ...conf import get_settings
from ...delivery.connections import share_connections
from ...delivery.context import DeliveryContext, open_context, statement_deadlines
from ...delivery.polling import ListingUnreadable, UnknownBatches, find_unknown, walk_listings
from ...evermuse.api import Status
from ...foreign_text import describe_error
from ...insight import format_time
from ...models import OutboxWorkspace, WorkspaceState
from ...operations import (
    Reconciliation,
    compare,
    discard_at_risk,
    hold,
    last_sign_of_life,
    release,
)
from ...upkeep import rescue_batches
from ...wakeup import wake_workers
from .. import CommandWithExamples, add_database, confirm, databases_of

SHOWN = 20
"""Unknown batches that the text shows; ``--json`` has all of them."""


class Command(CommandWithExamples):
    help = (
        "Compare a restored database with what Evermuse has. A workspace whose database was restored is held: nothing "
        "is sent. This command reads the listing from the time of the backup, and reports which batches the database "
        "lost, and which waiting records could overwrite something newer. --discard discards these records, and "
        "--release lets the workspace send again. Without them, nothing is changed."
    )

    examples = (
        "examples:\n"
        "  manage.py outbox_reconcile --hold                 before workers start: send nothing until you release it\n"
        "  manage.py outbox_reconcile                        report on all workspaces that are held\n"
        "  manage.py outbox_reconcile --since 2026-03-01T12:00:00Z --json\n"
        "                                                    read back to the time of the backup, and print JSON\n"
        "  manage.py outbox_reconcile --discard --release    send only what cannot overwrite anything newer\n"
        "  manage.py outbox_reconcile --release              send everything that is left\n"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--workspace", metavar="NAME", help="only this workspace (default: all that are held)"
        )
        add_database(parser)
        parser.add_argument(
            "--since",
            metavar="TIME",
            help="time of the backup, ISO 8601 (default: the last answer of Evermuse that the database has)",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument("--hold", action="store_true", help="send nothing until --release; read nothing")
        parser.add_argument("--discard", action="store_true", help="discard the records that are at risk")
        parser.add_argument("--release", action="store_true", help="let the workspaces send again")
        parser.add_argument("--reason", default="", metavar="TEXT", help="why you decide so; it is recorded")
        parser.add_argument(
            "--no-input", action="store_false", dest="interactive", help="do not ask for a confirmation"
        )

    @statement_deadlines()
    @share_connections()
    def handle(self, *args: Any, **options: Any) -> None:
        if options["hold"] and (options["discard"] or options["release"]):
            raise CommandError("--hold cannot be combined with --discard or --release.")
        contexts = list(_select(options))
        if options["hold"]:
            for context in contexts:
                self._hold(context, options["reason"])
            return
        results = [self._compare(context, options) for context in contexts]
        self._report(results, is_json=options["json"])
        for context, result in zip(contexts, results, strict=True):
            self._act(context, result, options)

    def _hold(self, context: DeliveryContext, why: str) -> None:
        if hold(context, reason=why):
            self.stdout.write(f"Workspace {context.queue_key} is held. Nothing is sent until it is released.")
        else:
            self.stdout.write(f"Workspace {context.queue_key} is held already.")

    def _compare(self, context: DeliveryContext, options: dict[str, Any]) -> Reconciliation:
        since = _parse_time(options["since"]) or last_sign_of_life(context)
        if since is None:
            raise CommandError(
                f"The database has no answer of Evermuse for {context.queue_key}. "
                "Give the time of the backup with --since."
            )
        rescue_batches(context.using, context.clock)
        listed = _read_listing(context, since)
        unknown = find_unknown(context, listed, since)
        return compare(context, listed, unknown, since)

    # --- the report -------------------------------------------------------------------------------

    def _report(self, results: list[Reconciliation], *, is_json: bool) -> None:
        if is_json:
            self.stdout.write(json.dumps({"workspaces": [_to_json(result) for result in results]}))
            return
        if not results:
            self.stdout.write("No workspace is held.")
        for result in results:
            for line in _describe(result):
                self.stdout.write(line)

    # --- the decision -----------------------------------------------------------------------------

    def _act(self, context: DeliveryContext, result: Reconciliation, options: dict[str, Any]) -> None:
        if not (options["discard"] or options["release"]):
            return
        if not result.is_held:
            raise CommandError(f"Workspace {context.queue_key} is not held: use --hold first.")
        if options["discard"] and result.leased:
            raise CommandError(
                f"{result.leased} batches of {context.queue_key} are leased: stop the workers, and try again when the "
                f"leases are over, after {context.settings.lease:g} s at the latest."
            )
        if options["interactive"]:
            self._confirm(result, options)
        if options["discard"]:
            count = discard_at_risk(context, result, reason=options["reason"])
            self.stdout.write(f"Discarded {count:,} records of {context.queue_key}.")
        if options["release"] and release(context, reason=options["reason"]):
            wake_workers(context.using, context.workspace_name)
            self.stdout.write(f"Workspace {context.queue_key} is active again.")

    def _confirm(self, result: Reconciliation, options: dict[str, Any]) -> None:
        risky = result.at_risk.pending + result.at_risk.in_batches
        actions = [f"discard {risky:,} records for good"] if options["discard"] else []
        if options["release"]:
            left = "" if options["discard"] or not risky else f", {risky:,} records at risk included"
            actions.append(f"send everything that is left{left}")
        confirm(f"{result.using}/{result.workspace}: {' and '.join(actions)}?")


def _select(options: dict[str, Any]) -> Iterator[DeliveryContext]:
    """Yield a context for each selected workspace; without ``--workspace`` and ``--hold``, only for those held."""
    known, name = get_settings().workspaces, options["workspace"]
    if name is not None and name not in known:
        raise CommandError(f"No workspace {name!r} in the settings; known: {', '.join(sorted(known))}.")
    for using in databases_of(options):
        held = OutboxWorkspace.objects.using(using).filter(state=WorkspaceState.RESTORED)
        names = set(held.values_list("pk", flat=True))
        for workspace in [name] if name else known:
            if name or options["hold"] or workspace in names:
                yield open_context(using, workspace)


def _read_listing(context: DeliveryContext, since: datetime) -> list[Status]:
    """Read the listing back to ``since``, with a progress bar on a terminal."""
    listed: list[Status] = []
    bar = tqdm(unit=" batches", disable=None, file=sys.stderr, desc=str(context.queue_key))
    with closing(context.client), bar:
        try:
            for page in walk_listings(context, since):
                listed += page.statuses
                bar.update(len(page.statuses))
        except ListingUnreadable as error:
            raise CommandError(
                f"The listing of {context.queue_key} cannot be read: {describe_error(error)}. Nothing was changed."
            ) from error
    return listed


def _parse_time(text: str | None) -> datetime | None:
    """Return a time as the project stores times; without an offset, it is in the current time zone."""
    if text is None:
        return None
    try:
        at = parse_datetime(text)
    except ValueError:
        at = None
    if at is None:
        raise CommandError(f"--since: {text!r} is no time; use for instance 2026-03-01T12:00:00Z.")
    is_aware_project = project.USE_TZ
    if timezone.is_naive(at) and is_aware_project:
        return timezone.make_aware(at)
    return at if is_aware_project or timezone.is_naive(at) else timezone.make_naive(at)


def _describe(result: Reconciliation) -> Iterator[str]:
    state = "held" if result.is_held else "not held"
    yield f"Workspace {result.using}/{result.workspace} ({state}), listing since {format_time(result.since)}:"
    yield from _describe_unknown(result.unknown)
    yield f"  At risk of overwriting something newer: {_counts(result.at_risk)}."
    yield f"  Proven safe: {_counts(result.safe)}."
    if result.leased:
        yield f"  Leased to workers: {result.leased:,} batches. Stop the workers, and wait until the leases are over."
    if result.failed:
        yield (
            f"  Failed at Evermuse: {len(result.failed):,} accepted batches. Their records would be sent again; "
            "--discard discards those at risk."
        )
    if result.unfinished:
        yield (
            f"  Not finished at Evermuse: {result.unfinished:,} accepted batches. If one fails later, its records are "
            "sent again. To be certain, wait until they are finished."
        )
    yield (
        "  The listing shows no products and no identities. So it cannot be proven which of the records at risk have "
        "a newer version at Evermuse."
    )


def _describe_unknown(unknown: UnknownBatches) -> Iterator[str]:
    if not unknown.unexplained and not unknown.explained:
        yield "  Evermuse has no batch that the databases do not have."
        return
    yield f"  Batches that Evermuse has and the databases do not: {len(unknown.unexplained):,}."
    for status in unknown.unexplained[:SHOWN]:
        yield (
            f"    {status.remote_id}  {_made_at(status):%Y-%m-%d %H:%M:%S} UTC  {status.type or 'unknown type'}  "
            f"{status.accepted + status.rejected:,} records  {status.status}"
        )
    if len(unknown.unexplained) > SHOWN:
        yield f"    … and {len(unknown.unexplained) - SHOWN:,} more; --json lists all."
    if unknown.explained:
        yield (
            f"  Batches that may be those of unclear attempts in the database: {len(unknown.explained):,}. "
            "This cannot be proven."
        )


def _counts(counts: Any) -> str:
    return f"{counts.pending:,} pending records, {counts.in_batches:,} in unsent batches"


def _made_at(status: Status) -> datetime:
    return datetime.fromtimestamp((status.created_at or 0) / 1000, UTC)


def _to_json(result: Reconciliation) -> dict[str, Any]:
    def batch(status: Status) -> dict[str, Any]:
        return {
            "id": status.remote_id,
            "created_at": _made_at(status).isoformat(),
            "type": status.type,
            "records": status.accepted + status.rejected,
            "status": status.status,
        }

    return {
        "database": result.using,
        "workspace": result.workspace,
        "held": result.is_held,
        "since": result.since.isoformat(),
        "unknown": [batch(status) for status in result.unknown.unexplained],
        "unknown_or_in_doubt": [batch(status) for status in result.unknown.explained],
        "unknown_by_type": dict(Counter(status.type for status in result.unknown.unexplained)),
        "at_risk": {"pending": result.at_risk.pending, "in_batches": result.at_risk.in_batches},
        "safe": {"pending": result.safe.pending, "in_batches": result.safe.in_batches},
        "leased_batches": result.leased,
        "failed_batches": list(result.failed),
        "unfinished_batches": result.unfinished,
    }
