"""Run a call to the broker for a limited time, whatever the transport and its options do."""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable
from typing import Any

from django.db import connections

PUBLISH_SECONDS = 0.5
"""Seconds for name resolution, connection, handshake, retries and the write together."""


class BrokerSilent(TimeoutError):
    """The broker has not answered in time. The call may still succeed later."""


class BrokerStillSilent(BrokerSilent):
    """An earlier call still waits for the broker, so no other call was made."""


class _Call:
    """A call in a thread of its own, with its result or its exception."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.done = threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """Call the function, and release what the call has opened."""
        try:
            self.result = self.function()
        except BaseException as error:
            self.error = error
        finally:
            connections.close_all()  # those of this thread: a handler of the host's signals may have opened them
            self.done.set()


_silent: dict[int, _Call] = {}
"""Process id → the call that got no answer in time. A fork has another process id and none of its parent's threads."""


def run_within(function: Callable[[], Any], seconds: float = PUBLISH_SECONDS) -> Any:
    """Return the result of a call, or raise its exception.

    The call runs in a thread, because not every transport has a timeout for each of its steps. A process has at most
    one thread that waits for a silent broker: until that thread ends, no other call is made.

    Raises:
        BrokerSilent: The call has not ended within ``seconds``. It may still succeed later.
        BrokerStillSilent: An earlier call has not ended yet, so no call was made.
    """
    silent = _silent.get(os.getpid())
    if silent and not silent.done.is_set():
        raise BrokerStillSilent("an earlier call still waits for the broker")
    call = _Call(function)
    context = contextvars.copy_context()
    threading.Thread(
        target=context.run, args=(call.run,), name="evermuse-outbox-publish", daemon=True
    ).start()
    if not call.done.wait(seconds):
        _silent[os.getpid()] = call
        raise BrokerSilent(f"no answer of the broker within {seconds:g} s")
    if call.error:
        raise call.error
    return call.result
