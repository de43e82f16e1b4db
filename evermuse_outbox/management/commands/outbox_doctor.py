"""``manage.py outbox_doctor``: find what is wrong with the installation, and say what to do."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from typing import Any

from django.conf import settings as project
from django.core.checks import CheckMessage

from ... import checks
from ...conf import find_problems, get_settings
from ...delivery.connections import share_connections
from ...delivery.context import open_context, statement_deadlines
from ...evermuse.api import find_route
from ...insight.doctor import Finding, examine_api, examine_database, is_relay_at_work
from ...schedule import beat_schedule
from .. import CommandWithExamples, add_database, databases_of

AREAS = {
    "evermuse_outbox.W007": "storage",
}
"""Id of a system check → its area; the others are about settings."""


class Command(CommandWithExamples):
    help = (
        "Find what is wrong with the installation: settings, migrations that are not applied, columns, indexes and "
        "constraints that are missing, altered or not valid, storage parameters, missing workers, wrong clocks. One "
        "read from the API of each workspace proves its key, its address and its proxy; it costs one permit of the "
        "rate limit. Nothing is changed. The exit status is 0 if everything is right, and 1 if something is wrong."
    )

    examples = (
        "examples:\n"
        "  manage.py outbox_doctor             examine everything\n"
        "  manage.py outbox_doctor --offline   make no request, for instance before a deployment\n"
        "  manage.py outbox_doctor --json      print the findings as JSON\n"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--offline", action="store_true", help="make no request to the API")
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        add_database(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        findings = [*_examine(options)]
        if options["json"]:
            listed = [finding.to_json() for finding in findings]
            self.stdout.write(json.dumps({"findings": listed, "routes": _routes()}))
        else:
            for name, route in _routes().items():
                self.stdout.write(f"The workspace {name} sends {route}.")
            self._print(findings)
        if findings:
            sys.exit(1)

    def _print(self, findings: Sequence[Finding]) -> None:
        for finding in findings:
            self.stdout.write(f"{finding.area} · {finding.where}: {finding.problem}", self.style.ERROR)
            self.stdout.write(f"  What to do: {finding.remedy}")
        if findings:
            wrong = "1 thing is wrong." if len(findings) == 1 else f"{len(findings)} things are wrong."
            self.stdout.write(wrong)
        else:
            self.stdout.write("Everything is right.", self.style.SUCCESS)


def _examine(options: dict[str, Any]) -> Iterator[Finding]:
    """Yield the findings. If the settings are not valid, nothing else can be examined."""
    yield from map(_finding_of, _unsilenced(checks.check_settings()))
    if not any(find_problems()):
        with statement_deadlines(), share_connections():
            yield from _examine_everything(options)


def _routes() -> dict[str, str]:
    """Return the route of each workspace to Evermuse, without credentials; nothing if the settings are not valid."""
    if any(find_problems()):
        return {}
    workspaces = get_settings().workspaces.values()
    return {workspace.name: str(find_route(workspace.api_url, workspace.proxy)) for workspace in workspaces}


def _examine_everything(options: dict[str, Any]) -> Iterator[Finding]:
    databases = databases_of(options)
    yield from _beat_schedule(databases)
    for using in databases:
        yield from examine_database(using)
    yield from map(_finding_of, _unsilenced(checks.check_storage(databases=databases)))
    if not options["offline"]:
        for name in get_settings().workspaces:
            yield from examine_api(open_context(databases[0], name))


def _beat_schedule(databases: Sequence[str]) -> Iterator[Finding]:
    """Yield the tasks that are missing in the schedule of the project.

    Without ``CELERY_BEAT_SCHEDULE``, the schedule is somewhere else. Where ``outbox_relay`` runs, none is needed.
    """
    configured = getattr(project, "CELERY_BEAT_SCHEDULE", None)
    if configured is None or any(is_relay_at_work(using) for using in databases):
        return
    needed = {entry["task"] for entry in beat_schedule().values()}
    if missing := needed - {entry.get("task") for entry in configured.values()}:
        problem = f"CELERY_BEAT_SCHEDULE lacks {' and '.join(sorted(missing))}."
        remedy = "Add the entries of evermuse_outbox.schedule.beat_schedule(), or run manage.py outbox_relay."
        yield Finding("workers", "CELERY_BEAT_SCHEDULE", problem, remedy)


def _unsilenced(messages: Sequence[CheckMessage]) -> list[CheckMessage]:
    return [message for message in messages if not message.is_silenced()]


def _finding_of(message: CheckMessage) -> Finding:
    check = str(message.id)
    return Finding(AREAS.get(check, "settings"), check, str(message.msg), str(message.hint or ""))
