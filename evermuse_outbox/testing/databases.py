"""The databases of the outbox that the running test may use."""

from __future__ import annotations

from django.test.testcases import DatabaseOperationForbidden  # type: ignore[attr-defined]  # the stubs lack it

from ..conf import get_settings
from ..models import OutboxRecord


def usable_databases(using: str | None = None) -> list[str]:
    """Return the databases of the outbox that the running test may use, or only ``using``.

    Django forbids the databases that are not in ``databases`` of a test class.

    Raises:
        DatabaseOperationForbidden: The test may use none of them. Django's message says what to change.
    """
    aliases, errors = ([using] if using else list(get_settings().databases)), []
    usable = []
    for alias in aliases:
        try:
            OutboxRecord.rows.using(alias).values("pk").order_by().first()
        except DatabaseOperationForbidden as error:
            errors.append(error)
        else:
            usable.append(alias)
    if not usable:
        raise errors[0]
    return usable
