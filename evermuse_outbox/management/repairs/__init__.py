"""The base class of the commands that repair records, and the options that select records.

It is a package of its own, because the command of the sandbox runs without models. Its interface is ``RepairCommand``,
``read_id`` and ``read_selection``.
"""

from .command import LOCKED_PAUSE, RepairCommand, to_json
from .selecting import read_id, read_selection

__all__ = ["LOCKED_PAUSE", "RepairCommand", "read_id", "read_selection", "to_json"]
