"""Check the encryption of stored payloads."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from django.core.checks import CheckMessage, Error, Warning  # noqa: A004
from django.db import DatabaseError

from ..conf import SETTING
from ..encryption import MasterKeyMissing, is_on, present_fingerprints
from ..models import OutboxDataKey

KNOWS_ENCRYPTION = 17
"""Number of the migration with which workers can read encrypted lines."""


def check_library() -> Iterator[CheckMessage]:
    """Check that the library is installed if the settings have master keys: E007."""
    if is_on() and find_spec("cryptography") is None:
        yield Error(
            f"{SETTING} has master keys, but the package cryptography is not installed. No record can be enqueued.",
            hint='Run: pip install "evermuse-outbox[encryption]".',
            id="evermuse_outbox.E007",
        )


def check_data_keys(alias: str) -> Iterator[CheckMessage]:
    """Check that the data keys of a database can be read: W050, and that all workers can read payloads: W051."""
    used = (
        OutboxDataKey.objects.using(alias).filter(destroyed_at__isnull=True).values_list("master", flat=True)
    )
    try:
        masters = set(used.distinct())
    except DatabaseError:
        return  # before the first migration, there are no tables
    try:
        present = set(present_fingerprints()) if masters and is_on() else set()
    except MasterKeyMissing:
        present = set()
    if missing := sorted(masters - present):
        yield Warning(
            f"The settings do not have the master keys {', '.join(missing)}, which encrypt data keys in the database "
            f"{alias!r}. Records whose payloads need them are not sent.",
            hint="Add them to the end of ENCRYPTION_KEYS again.",
            id="evermuse_outbox.W050",
        )
    if not is_on():
        return
    from ..monitoring import schema_of, versions_at_work  # late, because it loads the HTTP client

    old = sorted(version for version in versions_at_work(alias) if schema_of(version) < KNOWS_ENCRYPTION)
    if old:
        yield Warning(
            f"Workers of version {', '.join(old)} use the database {alias!r}. They cannot read encrypted payloads, and "
            "reject the records.",
            hint="Update all workers before you set master keys.",
            id="evermuse_outbox.W051",
        )
