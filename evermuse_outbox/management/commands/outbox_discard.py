"""``manage.py outbox_discard``: discard pending or rejected records, so that they are not sent."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from ...operations import RecordFilter
from .. import EXIT_CODES
from ..repairs import RepairCommand, read_selection


class Command(RepairCommand):
    kind, done = "discard", "discarded"
    help = (
        "Discard pending or rejected records for good: they are not sent. The workspace need not be in the settings "
        "any more. Records that a batch has taken stay; see outbox_batch --give-up. To send records of a workspace "
        f"that is missing in the settings, put it back under the same name instead. {EXIT_CODES}"
    )
    examples = (
        "examples:\n"
        "  manage.py outbox_discard --workspace old --reason 'customer has left'\n"
        "                                 discard everything that is pending in a workspace\n"
        "  manage.py outbox_discard --workspace default --group email prod-1 --no-input\n"
        "                                 discard one group, its _type and _product_id, without a question\n"
        "  manage.py outbox_discard --state rejected --older-than 90d --dry-run\n"
        "                                 what would be discarded of the old rejected records\n"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--state",
            choices=("pending", "rejected", "scheduled", "held"),
            default="pending",
            help="state of the records (default: pending)",
        )

    def select(self, options: dict[str, Any], using: str) -> RecordFilter:
        return read_selection(options, using, options["state"])
