"""Erase records: delete everything that the outbox stores of them, in any state, and report what Evermuse has.

Rows are deleted. The other records of a sealed batch are sealed again by the workers, as after any deletion. Texts that
quote an erased record are replaced: messages of its batches, answers in the attempt log, and the addresses in reasons.
This package must not send anything, and it cannot delete anything at Evermuse.
:func:`destroy_keys` erases all payloads of a scope, by the destruction of the keys that encrypt them.
Its public interface is :func:`find_records` for a :class:`Selection`, :func:`erase_records` for the ids, and
:func:`forget_texts` for what is left in messages.
"""

from .data_keys import Destroyed, destroy_keys, scopes_of
from .erase import Erased, delete_records, erase_records
from .evermuse_copy import AtEvermuse, ErasedRecord, describe_copies
from .find import MatchPage, Selection, find_records
from .forget import ERASED, forget_texts, mask

__all__ = [
    "ERASED",
    "AtEvermuse",
    "Destroyed",
    "Erased",
    "ErasedRecord",
    "MatchPage",
    "Selection",
    "delete_records",
    "describe_copies",
    "destroy_keys",
    "erase_records",
    "find_records",
    "forget_texts",
    "mask",
    "scopes_of",
]
