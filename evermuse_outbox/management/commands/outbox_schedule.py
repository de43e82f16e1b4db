"""``manage.py outbox_schedule``: send scheduled records now, or at another time."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from .. import EXIT_CODES, read_time_ahead
from ..repairs import RepairCommand


class Command(RepairCommand):
    kind, state, done = "reschedule", "scheduled", "changed the time of"
    help = (
        "Send scheduled records now, or at another time. Scheduled records were enqueued with send_after or debounce. "
        "A record that expires before that time is refused, and so is a held one: end its rule instead. "
        f"{EXIT_CODES}"
    )
    examples = (
        "examples:\n"
        "  manage.py outbox_schedule 17 --now --reason 'the embargo was lifted'\n"
        "  manage.py outbox_schedule --product prod-7 --at 2026-12-01T08:00:00Z --no-input\n"
        "  manage.py outbox_schedule --all --at 2h --dry-run        how many records, and what is refused\n"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        times = parser.add_mutually_exclusive_group()
        times.add_argument("--now", action="store_true", help="send them as soon as possible (default)")
        times.add_argument("--at", metavar="TIME", help="a time, or how long from now, such as 2h or 3d")

    def job_options(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"send_after": options["at"]} if options["at"] else {}

    def _run_on(self, using: str, options: dict[str, Any]) -> Any:
        at = read_time_ahead(options["at"], using)
        return super()._run_on(using, {**options, "at": at.isoformat() if at else None})
