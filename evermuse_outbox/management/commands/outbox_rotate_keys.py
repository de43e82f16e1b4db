"""``manage.py outbox_rotate_keys``: encrypt the data keys by the first master key."""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.db.models import Count

from ... import jobs
from ...delivery.context import statement_deadlines
from ...models import OperationState, OutboxDataKey, OutboxOperation, OutboxOperationMember
from ...operations import NotPossible
from .. import EXIT_CODES, REFUSED, USAGE, CommandWithExamples, add_database, add_reason, databases_of
from ..repairs import LOCKED_PAUSE, to_json

SHOWN = 20
"""Data keys that were not wrapped, of which the output shows the reason."""


class Command(CommandWithExamples):
    help = (
        "Wrap the data keys by the first of the ENCRYPTION_KEYS, by a job in chunks. The output says which of the "
        "others are still needed; then the exit status is 3. Payloads are not changed: outbox_encrypt does that. "
        f"{EXIT_CODES}"
    )
    examples = (
        "examples:\n"
        "  manage.py outbox_rotate_keys --reason 'yearly rotation'\n"
        "  manage.py outbox_rotate_keys --database archive --json\n"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        add_reason(parser)
        add_database(parser)

    @statement_deadlines()
    def handle(self, *args: Any, **options: Any) -> None:
        """Execute a job on each selected database."""
        try:
            results = [_rotate(using, options["reason"]) for using in databases_of(options)]
        except NotPossible as error:
            raise CommandError(error.message, returncode=USAGE) from error
        if options["json"]:
            entries = [to_json(job) | {"still_needed": _needed_masters(job)} for job in results]
            self.stdout.write(json.dumps({"jobs": entries}))
        else:
            for job in results:
                self._report(job)
        if any(job.state != OperationState.FINISHED or _needed_masters(job) for job in results):
            sys.exit(REFUSED)

    def _report(self, job: OutboxOperation) -> None:
        self.stdout.write(
            f"Job #{job.pk} in {job.using}: {job.changed:,} data keys wrapped, {job.refused:,} not."
        )
        if job.state != OperationState.FINISHED:
            self.stdout.write(f"It is {job.get_state_display()}. {job.message}", self.style.ERROR)
        for member in OutboxOperationMember.objects.using(job.using).not_changed(job)[:SHOWN]:
            self.stdout.write(f"  Data key #{member.target}: {member.note}", self.style.WARNING)
        needed = _needed_masters(job)
        for master, count in needed.items():
            self.stdout.write(f"{count:,} data keys still need the master key {master}.", self.style.WARNING)
        if not needed:
            self.stdout.write(f"All data keys need only the master key {job.options['master']}.")


def _needed_masters(job: OutboxOperation) -> dict[str, int]:
    """Return the fingerprints of the other master keys that are still needed, and the numbers of their data keys."""
    rows = OutboxDataKey.objects.using(job.using).filter(destroyed_at__isnull=True)
    others = rows.exclude(master=job.options["master"]).order_by("master").values("master")
    return dict(others.annotate(count=Count("pk")).values_list("master", "count"))


def _rotate(using: str, reason: str) -> OutboxOperation:
    options = jobs.rotation_options()
    job = jobs.create(using, "rotate_keys", reason=reason, selection="data keys", options=options)
    rows = OutboxDataKey.objects.using(using).filter(destroyed_at__isnull=True)
    while not jobs.collect(job, rows):
        pass
    jobs.confirm(job)
    while job.state == OperationState.RUNNING:
        if not jobs.run_chunk(using, job.pk):
            time.sleep(LOCKED_PAUSE)  # a worker may have executed the chunk
        job.refresh_from_db(using=using)
    return job
