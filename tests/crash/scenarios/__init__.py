"""What may be in progress when a process dies.

To add a scenario, add one function with ``@scenario`` to one of these files. It runs in a process of its own, which is
killed after each of its steps in turn. The arguments say what happened before it and what Evermuse answers. The
docstring says what is in progress.
"""

from ..scenario import SCENARIOS, Scenario
from . import (
    by_hand,
    encryption,
    hosts,
    isolation,
    personal_data,
    polling,
    repairs,
    restore,
    rules,
    sending,
    timing,
    upkeep,
)

__all__ = [
    "SCENARIOS",
    "Scenario",
    "by_hand",
    "encryption",
    "hosts",
    "isolation",
    "personal_data",
    "polling",
    "repairs",
    "restore",
    "rules",
    "sending",
    "timing",
    "upkeep",
]
