"""Standing rules: which pending records are held back or discarded before they are sealed.

This package must not seal or send anything, and it does not decide which rules there are. It changes records, and
batches that it withdraws, only under the sealing lock.
Its public interface is ``Conditions`` and the matching of records, ``withhold_matching`` with ``withhold_versions``
and ``release_matching``, ``withdraw_matching`` with ``is_applied``, the condition ``has_rules``, and ``tend_rules``.
"""

from .matching import Conditions, Rule, Subject, match_vendor_id
from .reading import MemberRow, affected_workspaces, has_rules, match_records, read_rules, to_rule
from .tend import tend_rules
from .withdraw import is_applied, withdraw_matching
from .withhold import release_matching, withhold_matching, withhold_versions

__all__ = [
    "Conditions",
    "MemberRow",
    "Rule",
    "Subject",
    "affected_workspaces",
    "has_rules",
    "is_applied",
    "match_records",
    "match_vendor_id",
    "read_rules",
    "release_matching",
    "tend_rules",
    "to_rule",
    "withdraw_matching",
    "withhold_matching",
    "withhold_versions",
]
