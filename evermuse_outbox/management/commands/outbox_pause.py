"""``manage.py outbox_pause``: hold workspaces or a group, until a person resumes them."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from ...conf import get_settings
from ...delivery.context import statement_deadlines
from ...operations import NotPossible, pause_group, pause_workspace
from .. import REFUSED, USAGE, CommandWithExamples, add_database, add_reason, databases_of


class Command(CommandWithExamples):
    help = (
        "Hold a workspace or a group: nothing of it is sent, and no probe is made, until outbox_resume. Records are "
        "enqueued as usual and wait. Accepted batches are polled on, and requests under way end. The exit status "
        "is 0 if it is held now, 2 for wrong options, and 3 if it was held already."
    )
    examples = (
        "examples:\n"
        "  manage.py outbox_pause --workspace emea --reason 'wrong key since noon'\n"
        "  manage.py outbox_pause --workspace emea --group email prod-1   only one group: its _type and _product_id\n"
        "  manage.py outbox_resume --workspace emea                       end the hold\n"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--workspace", metavar="NAME", required=True, help="name of the workspace")
        parser.add_argument("--group", nargs=2, metavar=("TYPE", "PRODUCT"), help="only this group")
        add_reason(parser)
        add_database(parser)

    @statement_deadlines()
    def handle(self, *args: Any, **options: Any) -> None:
        name, group, known = options["workspace"], options["group"], get_settings().workspaces
        if name not in known:
            text = f"No workspace {name!r} in the settings; known: {', '.join(sorted(known))}."
            raise CommandError(text, returncode=USAGE)
        refused = ""
        for using in databases_of(options):
            try:
                if group:
                    pause_group(using, name, tuple(group), reason=options["reason"])
                else:
                    pause_workspace(using, name, reason=options["reason"])
                where = f"group {' · '.join(group)} of workspace {name}" if group else f"workspace {name}"
                self.stdout.write(f"Held in {using}: {where}.")
            except NotPossible as error:
                refused = error.message
                self.stdout.write(error.message, self.style.WARNING)
        if refused:
            raise CommandError("Not everything was changed.", returncode=REFUSED)
