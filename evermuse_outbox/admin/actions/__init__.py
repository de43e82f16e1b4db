"""What people can change on the page of one row: they end the wait of a batch, a workspace or a group.

This package has the base classes of pages with these actions, their views and their messages. It sends nothing. Pages
inherit from :class:`ExitAdmin` or :class:`ResumeAdmin`.
"""

from .exits import Exit, ExitAdmin
from .resume import PAUSE, RESUME, ResumeAdmin

__all__ = ["PAUSE", "RESUME", "Exit", "ExitAdmin", "ResumeAdmin"]
