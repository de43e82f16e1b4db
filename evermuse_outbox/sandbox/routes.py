"""The published paths, and the permission that each of them requires."""

from __future__ import annotations

import re

from .responses import RequestRefused
from .store import READ, WRITE

INGEST = "/api/v1/ingest"
BATCHES = "/api/v1/ingest/batches"


def permission_for(method: str, path: str) -> str:
    """Return the permission that an endpoint requires.

    Raises:
        RequestRefused: 404 for an unknown path, 405 for another method.
    """
    if path == INGEST:
        allowed_method, permission = "POST", WRITE
    elif path == BATCHES or re.fullmatch(rf"{BATCHES}/[^/]+", path):
        allowed_method, permission = "GET", READ
    else:
        raise RequestRefused(404, "There is nothing at this path.")
    if method != allowed_method:
        raise RequestRefused(405, f"This path takes {allowed_method} only.")
    return permission
