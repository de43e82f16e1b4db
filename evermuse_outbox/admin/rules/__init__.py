"""Standing rules in the admin: which there are, what they did, a form that makes one, and a button that ends one.

The package must not compare records with rules. Its interface is ``OutboxRuleAdmin``.
"""

from .page import OutboxRuleAdmin

__all__ = ["OutboxRuleAdmin"]
