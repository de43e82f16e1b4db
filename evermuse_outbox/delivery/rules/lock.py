"""Wait for sealings that began before a change of the rules."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import transaction

from ...models import OutboxWorkspace


def wait_for_sealings(using: str, workspaces: Iterable[str]) -> None:
    """Wait until no sealing is under way that began before this call, in one workspace after the other.

    Such a sealing has not seen a change of the rules that was committed before this call. Later ones see it.
    """
    for name in workspaces:
        with transaction.atomic(using=using):
            OutboxWorkspace.objects.using(using).lock_for_sealing(name)
