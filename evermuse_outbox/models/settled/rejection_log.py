"""A warning when records are rejected, at most once a minute for each workspace and error signature.

The warning contains no text of the answer, because that may quote a payload. The page of the record shows the text.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...foreign_text import get_logger, log_ids

logger = get_logger(__name__)

WARNING_INTERVAL = 60.0
"""Seconds between two warnings of one process about the same error of a workspace. The later one counts all."""

MAX_SIGNATURES = 1_000
"""Errors that are remembered. If there are more, an error that was forgotten is logged once more."""

Key = tuple[str, str, str, str]
"""Database alias, workspace, code and error signature."""


@dataclass(slots=True)
class _Known:
    """When an error may be logged again, in seconds of the monotonic clock, and its rejections since the last time."""

    silent_until: float = 0.0
    unlogged: int = 0


_lock = threading.Lock()
_known: dict[Key, _Known] = {}


def warn_of_rejections(using: str, workspace: str, batch_id: int | None, rejections: Sequence[Any]) -> None:
    """Log one warning for each error of these rejections, unless it was logged within the last minute."""
    by_key: dict[Key, list[Any]] = {}
    for rejection in rejections:
        by_key.setdefault(_key(using, workspace, rejection), []).append(rejection)
    for key, group in by_key.items():
        if count := _count_to_log(key, len(group)):
            logger.warning(
                "%s/%s: records were rejected with %s: %s since the last warning; record #%s is an example, and its "
                "page shows the message",
                using,
                workspace,
                group[0].code,
                count,
                group[0].record_id,
                extra=log_ids(database=using, workspace=workspace, batch=batch_id, outcome="rejected"),
            )


def _count_to_log(key: Key, count: int) -> int:
    """Add rejections of an error. Return how many to log now; 0 if the last warning was too recent."""
    with _lock:
        if key not in _known and len(_known) >= MAX_SIGNATURES:
            _known.clear()
        known, now = _known.setdefault(key, _Known()), time.monotonic()
        known.unlogged += count
        if now < known.silent_until:
            return 0
        count, known.unlogged = known.unlogged, 0
        known.silent_until = now + WARNING_INTERVAL
        return count


def _key(using: str, workspace: str, rejection: Any) -> Key:
    # Imported here, because it loads the HTTP client, which a host that only enqueues does not need.
    from ...evermuse.api import make_error_signature

    return using, workspace, rejection.code, make_error_signature(rejection.message)
