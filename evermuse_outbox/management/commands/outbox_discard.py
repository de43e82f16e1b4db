"""``manage.py outbox_discard``: discard pending records, so that they are not sent."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from ...delivery.context import statement_deadlines
from ...models import OutboxRecord
from ...operations import discard_pending
from .. import CommandWithExamples, add_database, add_reason, databases_of


class Command(CommandWithExamples):
    help = (
        "Discard the pending records of a workspace or a group for good: they are not sent. The workspace need not be "
        "in the settings any more. Records that a batch has taken stay; see outbox_batch --give-up. To send "
        "records of a workspace that is missing in the settings, put it back under the same name instead."
    )

    examples = (
        "examples:\n"
        "  manage.py outbox_discard --workspace old --reason 'customer has left'\n"
        "                                 discard everything that is pending in a workspace\n"
        "  manage.py outbox_discard --workspace default --group email prod-1 --no-input\n"
        "                                 discard one group, its _type and _product_id, without a question\n"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--workspace", metavar="NAME", required=True, help="name of the workspace")
        parser.add_argument("--group", nargs=2, metavar=("TYPE", "PRODUCT"), help="only this group")
        parser.add_argument(
            "--no-input", action="store_false", dest="interactive", help="do not ask for a confirmation"
        )
        add_reason(parser)
        add_database(parser)

    @statement_deadlines()
    def handle(self, *args: Any, **options: Any) -> None:
        group = tuple(options["group"]) if options["group"] else None
        for using in databases_of(options):
            pending = OutboxRecord.rows.using(using).pending().filter(workspace=options["workspace"])
            if group:
                pending = pending.group(options["workspace"], *group)
            where = f"{options['workspace']}{' · '.join(('', *group)) if group else ''} in {using}"
            if not pending.exists():
                self.stdout.write(f"Nothing is pending in {where}.")
                continue
            if options["interactive"]:
                _confirm(f"Discard {pending.count():,} pending records of {where} for good?")
            count = discard_pending(using, options["workspace"], group, reason=options["reason"])
            self.stdout.write(f"Discarded {count:,} records of {where}.")


def _confirm(question: str) -> None:
    if input(f"{question} Type 'yes' to go on: ") != "yes":
        raise CommandError("Nothing was changed.")
