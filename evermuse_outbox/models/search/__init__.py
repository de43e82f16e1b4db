"""The search index: which records contain a vendor id, a thread id or a participant.

The package must not read a payload. Its interface is the index, and how far it is filled.
"""

from .term import OutboxSearchProgress, OutboxTerm

__all__ = ["OutboxSearchProgress", "OutboxTerm"]
