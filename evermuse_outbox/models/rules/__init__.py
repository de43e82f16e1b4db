"""Standing rules: which records are held back or discarded before they are sent.

The package decides nothing. Its interface is the model ``OutboxRule`` with its states and actions, and
``OutboxRuleMatch``, which says which rule has discarded a record.
"""

from .match import OutboxRuleMatch, RuleMatchQuerySet
from .rule import OutboxRule, RuleAction, RuleQuerySet, RuleState

__all__ = ["OutboxRule", "OutboxRuleMatch", "RuleAction", "RuleMatchQuerySet", "RuleQuerySet", "RuleState"]
