"""``manage.py outbox_resume``: make paused workspaces and groups active again."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandError

from ...conf import get_settings
from ...delivery.context import statement_deadlines
from ...models import GroupState, OutboxGroup
from ...operations import NotPossible, resume_group, resume_workspace
from ...wakeup import wake_workers
from .. import CommandWithExamples, add_database, add_reason, databases_of


class Command(CommandWithExamples):
    help = (
        "Make workspaces active that are paused or backing off, and groups of which Evermuse refused every record. "
        "Use it after you have corrected the cause. Without it, they become active when their next trial request "
        "succeeds. After a 429, a workspace stays throttled until the retryAfter of Evermuse is over, for an hour at "
        "the most. --force ends that wait, too. Batches that wait for a later time are sent at once."
    )

    examples = (
        "examples:\n"
        "  manage.py outbox_resume                        resume all workspaces and groups\n"
        "  manage.py outbox_resume --workspace emea       resume one workspace and its groups\n"
        "  manage.py outbox_resume --group email prod-1   resume one group: its _type and _product_id\n"
        "  manage.py outbox_resume --workspace emea --force --reason 'retryAfter was in milliseconds'\n"
        "                                                 do not wait for the end of a retryAfter\n"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--workspace", metavar="NAME", help="only this workspace (default: all)")
        parser.add_argument(
            "--group", nargs=2, metavar=("TYPE", "PRODUCT"), help="only this group, and no workspace"
        )
        parser.add_argument(
            "--force",
            action="store_true",
            help="end a retryAfter of Evermuse, too, in the database and in the throttle of the API key",
        )
        add_reason(parser)
        add_database(parser)

    @statement_deadlines()
    def handle(self, *args: Any, **options: Any) -> None:
        known = get_settings().workspaces
        name = options["workspace"]
        if name is not None and name not in known:
            raise CommandError(f"No workspace {name!r} in the settings; known: {', '.join(sorted(known))}.")
        names = [name] if name else list(known)
        lines = [
            line
            for using in databases_of(options)
            for name in names
            for line in self._resume(using, name, options)
        ]
        for line in lines or [f"Nothing to resume: {_describe_selection(name, options['group'])}."]:
            self.stdout.write(line)

    def _resume(self, using: str, name: str, options: dict[str, Any]) -> Iterator[str]:
        lines = [*self._resume_workspace(using, name, options), *self._resume_groups(using, name, options)]
        if lines:
            wake_workers(using, name)
        yield from lines

    def _resume_workspace(self, using: str, name: str, options: dict[str, Any]) -> Iterator[str]:
        if options["group"]:
            return
        try:
            resumed = resume_workspace(using, name, reason=options["reason"], force=options["force"])
        except NotPossible as error:
            yield error.message
            return
        if resumed:
            yield f"Workspace {name} is active again. It was {resumed.was}: {resumed.because}"

    def _resume_groups(self, using: str, name: str, options: dict[str, Any]) -> Iterator[str]:
        rows = OutboxGroup.objects.using(using).exclude(state=GroupState.CLEARED)
        group = options["group"]
        for row in list(rows.for_group(name, *group) if group else rows.filter(workspace=name)):
            if resumed := resume_group(using, row, reason=options["reason"]):
                yield f"Group {row} of workspace {name} is active again. It was {resumed.was}: {resumed.because}"


def _describe_selection(workspace: str | None, group: list[str] | None) -> str:
    """Return which of the workspaces and groups that the options select is paused: none."""
    where = f" of workspace {workspace}" if workspace else ""
    if group:
        return f"no group {' · '.join(group)}{where} is paused"
    return (
        f"neither workspace {workspace} nor a group of it is paused"
        if workspace
        else "no workspace or group is paused"
    )
