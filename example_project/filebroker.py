"""Celery's broker of plain files, with messages that appear whole.

Kombu's own writes a message into the file that a worker may be reading already, and a worker that finds it
empty ends. Here it is written under another name and then renamed.
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    """One connection to the folder of messages."""

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:  # type: ignore[override]
        folder = Path(self.data_folder_out)
        name = f"{round(time.monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg"
        part = folder / f"{name}.part"
        part.write_text(dumps(payload))
        part.rename(folder / name)


class Transport(filesystem.Transport):
    """What a broker URL that begins with ``filesystem:`` stands for in this project."""

    Channel = Channel


def install() -> None:
    """Makes ``filesystem:`` mean this transport."""
    TRANSPORT_ALIASES["filesystem"] = f"{__name__}:Transport"
