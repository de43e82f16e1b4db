"""Post one record per request to the API. A user of the other packages would write similar code."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from typing import Any

import requests

_local = threading.local()


def post(record: Mapping[str, Any]) -> None:
    """Post a record. Raises ``requests.RequestException`` if the API did not accept it."""
    post_line(json.dumps(record, ensure_ascii=False, separators=(",", ":")), key_of(record))


def post_line(line: str, key: str) -> None:
    """Post a record that is already JSON. ``key`` is the idempotency key."""
    response = _session().post(
        f"{os.environ['EVERMUSE_API_URL']}/api/v1/ingest",
        data=line.encode() + b"\n",
        headers={"Content-Type": "application/x-ndjson", "Idempotency-Key": key},
        timeout=30,
    )
    response.raise_for_status()


def key_of(record: Mapping[str, Any]) -> str:
    """Return the idempotency key of a record: its vendor id."""
    return record["_vendor_ids"]["desk"]


def _session() -> requests.Session:
    """Return the session of the current thread, which keeps its connection open."""
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
        _local.session.headers["Authorization"] = f"Bearer {os.environ['EVERMUSE_API_KEY']}"
    return _local.session
