"""Deferral: records that are sent later, or not after a time.

A scheduled or held record is closed to sealing until its time. This package opens it again, lets records expire, and
keeps one version of a debounced identity. It must not seal or send anything.
Its public interface is ``apply_all_due`` with ``apply_due``, ``expire_due`` for records that are about to be sealed,
and ``hold`` with ``release_held`` for standing rules. ``plan`` uses no database and no clock.
"""

from .apply import CHUNK, apply_all_due, apply_due, expire_due
from .held import hold, release_held

__all__ = ["CHUNK", "apply_all_due", "apply_due", "expire_due", "hold", "release_held"]
