"""What may be under way when a process dies.

To add a piece of the pipeline, add one function with ``@scenario`` to one of these files. What it does is played
by a process of its own, which is killed after each of its steps in turn; what happened before, and what Evermuse
will answer, are the arguments. The docstring says what is under way.
"""

from ..scenario import SCENARIOS, Scenario
from . import hosts, isolation, polling, sending, upkeep

__all__ = ["SCENARIOS", "Scenario", "hosts", "isolation", "polling", "sending", "upkeep"]
