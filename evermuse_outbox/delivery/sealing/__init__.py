"""Sealing turns pending records into batches: members, order, exact bytes and idempotency key, before any POST.

This package must not send anything and must not choose groups. It changes records, batches and the run queue only under
the sealing lock, which ``lock.py`` explains.
Its public interface is ``sealing_lock`` with ``lock_for_sealing``, ``seal_first``, ``open_sealed`` with
``read_members``, ``new_key`` and ``request_limits``, and, for batches that are sealed again, ``reseal_parts``,
``reseal_in_doubt``, ``reseal_part`` and ``prepare_members``.
``discard_destroyed`` ends records whose data key was destroyed.
"""

from .batches import (
    BodyChanged,
    SealedBatch,
    SealRaced,
    new_key,
    open_sealed,
    read_members,
    request_limits,
)
from .lock import lock_for_sealing, sealing_lock
from .reseal import prepare_members, reseal_in_doubt, reseal_part, reseal_parts
from .seal import seal_first
from .stored_lines import discard_destroyed

__all__ = [
    "BodyChanged",
    "SealRaced",
    "SealedBatch",
    "discard_destroyed",
    "lock_for_sealing",
    "new_key",
    "open_sealed",
    "prepare_members",
    "read_members",
    "request_limits",
    "reseal_in_doubt",
    "reseal_part",
    "reseal_parts",
    "seal_first",
    "sealing_lock",
]
