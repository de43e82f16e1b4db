"""The list and the page of runs. They change nothing but the end of a run, by ``operations``."""

from .page import OutboxRunAdmin

__all__ = ["OutboxRunAdmin"]
