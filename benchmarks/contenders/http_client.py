"""One record to the API in one request: the code that a user of any peer would write."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from typing import Any

import requests

_local = threading.local()


def post(record: Mapping[str, Any]) -> None:
    """Raises ``requests.RequestException`` where it was not taken."""
    post_line(json.dumps(record, ensure_ascii=False, separators=(",", ":")), key_of(record))


def post_line(line: str, key: str) -> None:
    """The record as text; ``key`` is its Idempotency-Key."""
    answer = _session().post(
        f"{os.environ['EVERMUSE_API_URL']}/api/v1/ingest",
        data=line.encode() + b"\n",
        headers={"Content-Type": "application/x-ndjson", "Idempotency-Key": key},
        timeout=30,
    )
    answer.raise_for_status()


def key_of(record: Mapping[str, Any]) -> str:
    """What tells this record from all others."""
    return record["_vendor_ids"]["desk"]


def _session() -> requests.Session:
    """One Session a thread, so that connections are kept."""
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
        _local.session.headers["Authorization"] = f"Bearer {os.environ['EVERMUSE_API_KEY']}"
    return _local.session
