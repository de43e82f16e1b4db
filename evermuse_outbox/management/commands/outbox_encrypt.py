"""``manage.py outbox_encrypt``: encrypt stored payloads, or decrypt them again."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from ...delivery.context import statement_deadlines
from .. import EXIT_CODES
from ..repairs import RepairCommand


class Command(RepairCommand):
    kind, state, done = "encrypt", "", "encrypted"
    help = (
        "Encrypt payloads that are stored as plain text, and those under an older data key, by a job in chunks. With "
        "--decrypt, store them as plain text again. What is sent stays the same. A payload that was dropped, or that "
        f"cannot be read, is refused. {EXIT_CODES}"
    )
    examples = (
        "examples:\n"
        "  manage.py outbox_encrypt --all --reason 'policy 7'   encrypt everything that is stored\n"
        "  manage.py outbox_encrypt --workspace emea --dry-run  show how much there is\n"
        "  manage.py outbox_encrypt --continue 12               go on with a job that was interrupted\n"
        "  manage.py outbox_encrypt --decrypt --all             store plain text again, before the keys are removed\n"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--decrypt", action="store_true", help="decrypt instead")

    @statement_deadlines()
    def handle(self, *args: Any, **options: Any) -> None:
        if options["decrypt"]:
            self.kind, self.done = "decrypt", "decrypted"
        super().handle(*args, **options)
