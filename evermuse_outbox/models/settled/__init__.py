"""What happens after the commit of a change that settles a batch or records: signals, and a warning for rejections.

This package must change nothing, and without a receiver it must read nothing. Its callers are the methods that change
states. Public interface: ``notify_batch``, ``notify_completed`` and ``notify_rejected``.
"""

from .notify import notify_batch, notify_completed, notify_rejected

__all__ = ["notify_batch", "notify_completed", "notify_rejected"]
