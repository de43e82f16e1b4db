"""Standing rules: which pending records are held back or discarded before they are sealed.

This package must not seal or send anything.
Its public interface is ``Conditions`` and the matching of records, which is pure.
"""

from .matching import Conditions, Rule, Subject, first_match, in_order, parse_vendor_ids, rules_of_group

__all__ = [
    "Conditions",
    "Rule",
    "Subject",
    "first_match",
    "in_order",
    "parse_vendor_ids",
    "rules_of_group",
]
