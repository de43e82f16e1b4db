"""Standing rules: which records are held back or discarded before they are sent.

The package decides nothing. Its interface is the model ``OutboxRule`` with its states and actions.
"""

from .rule import OutboxRule, RuleAction, RuleQuerySet, RuleState

__all__ = ["OutboxRule", "RuleAction", "RuleQuerySet", "RuleState"]
