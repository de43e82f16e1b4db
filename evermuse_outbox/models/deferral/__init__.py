"""Deferrals: records that are not sent now, or not after a time.

The package decides nothing. Its interface is the model ``OutboxDeferral``.
"""

from .deferral import DeferralQuerySet, OutboxDeferral

__all__ = ["DeferralQuerySet", "OutboxDeferral"]
