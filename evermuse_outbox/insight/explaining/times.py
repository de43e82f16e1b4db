"""Times as operators read them."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone
from django.utils.translation import gettext as _


def to_local_time(at: datetime) -> datetime:
    """Return ``at`` in the current time zone; unchanged if the project has none (``USE_TZ = False``)."""
    return timezone.localtime(at) if timezone.is_aware(at) else at


def format_time(at: datetime | None) -> str:
    """Return a time as operators read it: in the current time zone and in whole seconds."""
    return f"{to_local_time(at):%Y-%m-%d %H:%M:%S %Z}".strip() if at else _("no known time")
