"""Show what the sandbox received, and control its faults, over HTTP: a JSON interface and a page for the browser.

The package must not change what clients of the API see, except by faults. It keeps the requests in bounded memory. Its
public interface is :class:`Control`, which answers requests, and :class:`History`, which keeps them.
"""

from .control import Control, ControlRequest, Inspected
from .guard import is_loopback
from .history import Entry, History, ReceivedRequest

__all__ = ["Control", "ControlRequest", "Entry", "History", "Inspected", "ReceivedRequest", "is_loopback"]
