"""``manage.py outbox_resume``: a person's word that what held records back is mended."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandError
from django.utils import timezone

from ...conf import get_settings
from ...models import GroupState, OutboxGroup, OutboxWorkspace, WorkspaceState
from ...wakeup import wake_workers
from ..databases import add_database, databases_of
from ..help_with_examples import CommandWithExamples


class Command(CommandWithExamples):
    help = (
        "Ends what holds records back: workspaces that are paused or backing off, and groups in which everything "
        "was refused alike. They would go on by themselves once a probe succeeds; this is to go on at once. "
        "A retryAfter of Evermuse is obeyed all the same."
    )

    examples = (
        "examples:\n"
        "  manage.py outbox_resume                        everything that is held\n"
        "  manage.py outbox_resume --workspace emea       what is held in one workspace\n"
        "  manage.py outbox_resume --group email prod-1   one group\n"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--workspace", metavar="NAME", help="only in this workspace (default: in all)")
        parser.add_argument(
            "--group", nargs=2, metavar=("TYPE", "PRODUCT"), help="only this group, and no workspace's hold"
        )
        add_database(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        known = get_settings().workspaces
        named = options["workspace"]
        if named is not None and named not in known:
            raise CommandError(f"No workspace {named!r} in the settings; known: {', '.join(sorted(known))}.")
        names = [named] if named else list(known)
        resumed = [
            line
            for using in databases_of(options)
            for name in names
            for line in self._resume(using, name, options["group"])
        ]
        for line in resumed:
            self.stdout.write(line)
        if not resumed:
            self.stdout.write("Nothing is held.")

    def _resume(self, using: str, name: str, group: list[str] | None) -> Iterator[str]:
        found = [*self._workspace(using, name, group), *self._groups(using, name, group)]
        if found:
            wake_workers(using, name)
        yield from found

    def _workspace(self, using: str, name: str, group: list[str] | None) -> Iterator[str]:
        rows = OutboxWorkspace.objects.using(using)
        row = rows.filter(pk=name).exclude(state=WorkspaceState.ACTIVE).first()
        if row is None or group:
            return
        if rows.resume(name, timezone.now()):
            yield f"Workspace {name} is open again. It was {row.get_state_display()}: {row.reason}"
        else:
            yield f"Workspace {name} stays throttled, as Evermuse asked for it, until {row.blocked_until}."

    def _groups(self, using: str, name: str, group: list[str] | None) -> Iterator[str]:
        rows = OutboxGroup.objects.using(using).exclude(state=GroupState.CLEARED)
        for row in list(rows.named(name, *group) if group else rows.filter(workspace=name)):
            if rows.filter(pk=row.pk).resume():
                was = f"{row.get_state_display()}: {row.reason or row.error_signature}"
                yield f"Group {row} of workspace {name} goes on. It was {was}"
