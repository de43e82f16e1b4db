"""Records that Evermuse takes, for tests to vary."""

from __future__ import annotations

from typing import Any


def record(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A valid message of that number; a change to None takes the field away."""
    made = {
        "_type": "message",
        "_schema_version": "1.0.0",
        "_event_at": "2026-02-24T12:34:56Z",
        "_vendor_ids": {"message_id": f"msg-{number}"},
        "_product_id": "prod-abc",
        "_project_id": "proj-123",
        "_nature": "evidence",
        "data": {"text": f"Hello {number}"},
    }
    return {name: value for name, value in (made | changes).items() if value is not None}
