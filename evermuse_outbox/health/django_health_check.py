"""The health of the outbox as a check of django-health-check 4 or later. Import it only where that is installed."""

from __future__ import annotations

import dataclasses
import threading

from health_check.base import HealthCheck
from health_check.exceptions import ServiceUnavailable

from ..delivery.connections import close_thread_connections
from .view import read_health


@dataclasses.dataclass
class OutboxHealthCheck(HealthCheck):  # type: ignore[misc]  # it has no type hints
    """Whether the outbox delivers. The message names the failing checks, and no workspace and no reason."""

    def run(self) -> None:
        """Raise ``ServiceUnavailable`` if a check fails."""
        try:
            checks = read_health()["checks"]
        finally:
            if threading.current_thread() is not threading.main_thread():
                close_thread_connections()  # the thread of the check ends without Django's knowledge
        if failing := [name for name, state in checks.items() if state != "ok"]:
            raise ServiceUnavailable(f"the outbox does not deliver: {', '.join(failing)}")
