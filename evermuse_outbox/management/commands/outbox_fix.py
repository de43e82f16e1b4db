"""``manage.py outbox_fix``: change rejected records by a function of the host, and send them as new versions."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from ... import jobs
from ...operations import RecordFilter
from .. import EXIT_CODES
from ..repairs import RepairCommand

EXAMPLES = 3
"""Records of which the preview shows the changes."""


class Command(RepairCommand):
    kind, done = "fix", "fixed"
    help = (
        "Change rejected records by a function of the setting FIXES, validate them as at enqueue, and send them as new "
        "versions. The originals are superseded and kept. The preview shows the changes of a few records as a diff. "
        f"A record for which the function raises, or whose new version is invalid, is refused. {EXIT_CODES}"
    )
    examples = (
        "examples:\n"
        "  manage.py outbox_fix product --product prod-7 --dry-run   show what the function 'product' changes\n"
        "  manage.py outbox_fix product --product prod-7 --reason 'the product was renamed'\n"
        "  manage.py outbox_fix product --error-code INVALID_RECORD --no-input --json\n"
        "\n"
        "a function, in EVERMUSE_OUTBOX = {'FIXES': {'product': 'desk.fixes.product'}}:\n"
        "  def product(envelope):\n"
        "      envelope['_product_id'] = 'prod-8'\n"
        "      return envelope            # or None, to leave the record as it is\n"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("fix", metavar="FIX", help="name of a function in the setting FIXES")
        super().add_arguments(parser)

    def job_options(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"fix": options["fix"]}

    def show_examples(self, using: str, selection: RecordFilter, options: dict[str, Any]) -> None:
        if options["json"]:
            return
        for example in jobs.preview_fix(selection.rows(using), options["fix"], EXAMPLES):
            self.stdout.write(f"Record #{example.pk}: {example.refusal or 'is changed:'}")
            for line in example.diff.splitlines():
                self.stdout.write(f"  {line}")
