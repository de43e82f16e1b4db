"""``manage.py outbox_batch``: explain why batches wait, and end the wait."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from ...conf import get_settings
from ...delivery.context import open_context, statement_deadlines
from ...insight import explain_batch
from ...models import OutboxBatch
from ...operations import GivenUp, NotPossible, give_up_batch, isolate_batch, retry_batch_now
from ...wakeup import wake_workers
from .. import CommandWithExamples, add_database, add_reason, databases_of


class Command(CommandWithExamples):
    help = (
        "Explain why batches wait and what ends the wait, or end it by hand. Without an action, nothing is changed. "
        "--give-up rejects the records of a batch; they can be retried in the admin. If Evermuse may have the batch, "
        "it may still process the records."
    )

    examples = (
        "examples:\n"
        "  manage.py outbox_batch 17                 explain batch 17: what it waits for, and for how long\n"
        "  manage.py outbox_batch 17 --retry-now     send or poll it now instead of later\n"
        "  manage.py outbox_batch 17 --isolate       try its records part by part, to find the bad ones\n"
        "  manage.py outbox_batch 17 --retry-now --without-listing\n"
        "                                            send a batch in doubt although the listing cannot be read\n"
        "  manage.py outbox_batch 17 18 --give-up --reason 'sent by hand'\n"
        "                                            reject the records of two batches\n"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("batch", nargs="+", type=int, metavar="ID", help="number of a batch")
        actions = parser.add_mutually_exclusive_group()
        actions.add_argument(
            "--retry-now", action="store_true", help="send or poll the batch with the next free permit"
        )
        actions.add_argument("--isolate", action="store_true", help="try the records part by part")
        actions.add_argument(
            "--give-up",
            action="store_true",
            help="end the batch and reject its records that are not finished",
        )
        parser.add_argument(
            "--without-listing",
            action="store_true",
            help="with --retry-now: do not look for a batch in doubt in the listing first",
        )
        add_reason(parser)
        add_database(parser)

    @statement_deadlines()
    def handle(self, *args: Any, **options: Any) -> None:
        if options["without_listing"] and not options["retry_now"]:
            raise CommandError("--without-listing needs --retry-now.")
        failed = 0
        for pk in options["batch"]:
            using = _database_of(pk, options)
            try:
                self.stdout.write(f"Batch #{pk}: {self._act(using, pk, options)}")
            except NotPossible as error:
                failed += 1
                self.stdout.write(error.message, self.style.ERROR)
        if failed:
            raise CommandError(f"{failed} of {len(options['batch'])} batches were not changed.")

    def _act(self, using: str, pk: int, options: dict[str, Any]) -> str:
        reason = options["reason"]
        batch = OutboxBatch.objects.using(using).get(pk=pk)
        if options["retry_now"]:
            text = retry_batch_now(using, pk, reason=reason, without_listing=options["without_listing"])
        elif options["isolate"]:
            if batch.workspace not in get_settings().workspaces:
                raise NotPossible(
                    f"The settings have no workspace {batch.workspace!r}, so batch #{pk} cannot be sent. Put the "
                    f"workspace back, or give the batch up: manage.py outbox_batch {pk} --give-up"
                )
            isolate_batch(open_context(using, batch.workspace), pk, reason=reason)
            text = "Its records are tried part by part."
        elif options["give_up"]:
            text = _describe(give_up_batch(using, pk, reason=reason))
        else:
            return explain_batch(batch)
        wake_workers(using, batch.workspace)
        return text


def _database_of(pk: int, options: dict[str, Any]) -> str:
    """Return the selected database that has the batch. If several have it, ask for ``--database``."""
    selected = databases_of(options)
    aliases = [using for using in selected if OutboxBatch.objects.using(using).filter(pk=pk).exists()]
    if not aliases:
        raise CommandError(f"No batch {pk} in the database {', '.join(selected)}; it may have been purged.")
    if len(aliases) > 1:
        raise CommandError(f"Several databases have a batch {pk}: {', '.join(aliases)}. Add --database.")
    return aliases[0]


def _describe(result: GivenUp) -> str:
    text = f"given up; {result.records:,} records are rejected."
    return f"{text} Evermuse may have them, and may still process them." if result.may_be_sent else text
