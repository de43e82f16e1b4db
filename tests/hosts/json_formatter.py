"""A formatter of logs that writes JSON, as many hosts have it."""

from __future__ import annotations

import json
import logging


class JsonFormatter(logging.Formatter):
    """Writes every attribute of a message, and fails if one of them is no JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a message as a line of JSON."""
        values = {
            name: value for name, value in vars(record).items() if name not in ("args", "exc_info", "msg")
        }
        return json.dumps({**values, "message": record.getMessage(), "error": bool(record.exc_info)})
