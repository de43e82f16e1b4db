"""A Celery broker that stores messages as files, so that the demo needs no server.

Kombu has a file transport, too. It writes each message in place, so a worker can read a file that is
still empty, and then the worker stops. This transport writes the message under another name and
renames it when it is complete.
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    """A connection to the folder of messages."""

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:  # type: ignore[override]
        folder = Path(self.data_folder_out)
        # The name begins with the time because Kombu reads the files in the order of their names.
        name = f"{round(time.monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg"
        incomplete = folder / f"{name}.part"
        incomplete.write_text(dumps(payload))
        incomplete.rename(folder / name)


class Transport(filesystem.Transport):
    """The transport for broker URLs that begin with ``filesystem:``."""

    Channel = Channel


def install() -> None:
    """Register this transport for ``filesystem:`` URLs, in place of Kombu's."""
    TRANSPORT_ALIASES["filesystem"] = f"{__name__}:Transport"
