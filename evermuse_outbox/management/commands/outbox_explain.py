"""``manage.py outbox_explain``: say why a record, batch, workspace or group waits, and what happens next."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandError

from ...delivery.context import statement_deadlines
from ...insight import explain_batch, explain_group, explain_record, explain_workspace
from ...models import OutboxBatch, OutboxGroup, OutboxRecord, OutboxWorkspace
from .. import USAGE, CommandWithExamples, add_database, databases_of
from ..repairs import read_id


class Command(CommandWithExamples):
    help = (
        "Explain records, a batch, a workspace or a group: the state, what happens next, why it has not happened yet, "
        "and how to end the wait by hand. Nothing is changed. The exit status is 0, and 2 if there is no such row."
    )
    examples = (
        "examples:\n"
        "  manage.py outbox_explain 17 '#18'                      two records\n"
        "  manage.py outbox_explain --batch 5                     a batch\n"
        "  manage.py outbox_explain --workspace emea              a workspace\n"
        "  manage.py outbox_explain --workspace emea --group email prod-1   a group: its _type and _product_id\n"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "ids", nargs="*", type=read_id, metavar="ID", help="ids of records, such as 17 or #17"
        )
        parser.add_argument("--batch", type=read_id, metavar="ID", help="a batch")
        parser.add_argument(
            "--workspace", metavar="NAME", help="a workspace, or with --group the one of the group"
        )
        parser.add_argument(
            "--group", nargs=2, metavar=("TYPE", "PRODUCT"), help="a group; needs --workspace"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        add_database(parser)

    @statement_deadlines()
    def handle(self, *args: Any, **options: Any) -> None:
        if options["group"] and not options["workspace"]:
            raise CommandError("--group needs --workspace.", returncode=USAGE)
        if not (options["ids"] or options["batch"] or options["workspace"]):
            raise CommandError("Name a record, --batch, --workspace or --group.", returncode=USAGE)
        rows = [row for using in databases_of(options) for row in _explain(using, options)]
        if not rows:
            raise CommandError("There is no such row; it may have been purged.", returncode=USAGE)
        if options["json"]:
            self.stdout.write(json.dumps({"rows": rows}))
            return
        for row in rows:
            self.stdout.write(f"{row['row']} in {row['database']} is {row['state']}. {row['explanation']}")


def _explain(using: str, options: dict[str, Any]) -> Iterator[dict[str, str]]:
    for record in OutboxRecord.objects.using(using).filter(pk__in=options["ids"]).order_by("pk"):
        yield _row(using, str(record), record.get_state_display(), explain_record(record))
    if options["batch"]:
        for batch in OutboxBatch.objects.using(using).filter(pk=options["batch"]):
            yield _row(using, str(batch), batch.get_state_display(), explain_batch(batch))
    if options["group"]:
        groups = OutboxGroup.objects.using(using).for_group(options["workspace"], *options["group"])
        for group in groups:
            yield _row(using, f"group {group}", group.get_state_display(), explain_group(group))
        if not groups:
            text = "No row: Evermuse has accepted its records, and no person holds it."
            yield _row(using, f"group {' · '.join(options['group'])}", "active", text)
    elif options["workspace"]:
        for row in OutboxWorkspace.objects.using(using).filter(pk=options["workspace"]):
            yield _row(using, f"workspace {row}", row.get_state_display(), explain_workspace(row))


def _row(using: str, name: str, state: Any, explanation: str) -> dict[str, str]:
    return {"database": using, "row": name, "state": str(state), "explanation": explanation}
