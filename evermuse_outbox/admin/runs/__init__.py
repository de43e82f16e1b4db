"""The list and the page of runs: their counts, their rejections by error, and a plot of their progress.

This package changes nothing itself; ``operations`` closes a run. Its interface is the class that Django registers.
"""

from .page import OutboxRunAdmin

__all__ = ["OutboxRunAdmin"]
