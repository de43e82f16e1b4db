"""``manage.py outbox_rotate_keys``: encrypt the data keys by the first master key."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from ... import jobs
from ...delivery.context import statement_deadlines
from ...models import OutboxDataKey, OutboxOperation
from ...operations import NotPossible
from .. import EXIT_CODES, USAGE, CommandWithExamples, add_database, add_reason, databases_of
from ..repairs import to_json


class Command(CommandWithExamples):
    help = (
        "Wrap the data keys by the first of the ENCRYPTION_KEYS, by a job in chunks. Afterwards, the others are not "
        f"needed any more. Payloads are not changed: outbox_encrypt does that. {EXIT_CODES}"
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
            self.stdout.write(json.dumps({"jobs": [to_json(job) for job in results]}))
            return
        for job in results:
            self.stdout.write(
                f"Job #{job.pk} in {job.using}: {job.changed:,} data keys wrapped, {job.refused:,} not."
            )
            for reason, entry in job.expected.items():
                self.stdout.write(f"  {entry['count']:,} refused: {reason}.")


def _rotate(using: str, reason: str) -> OutboxOperation:
    job = jobs.create(using, "rotate_keys", reason=reason, selection="data keys")
    rows = OutboxDataKey.objects.using(using).filter(destroyed_at__isnull=True)
    while not jobs.collect(job, rows):
        pass
    jobs.confirm(job)
    while jobs.run_chunk(using, job.pk):
        pass
    job.refresh_from_db(using=using)
    return job
