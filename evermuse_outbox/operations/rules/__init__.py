"""Make and end standing rules, which hold back or discard records before they are sent, also those of the future.

A rule is not compared with records here: the delivery does that when it seals, and the workers release what an ended
rule held. This package must not seal or send anything.
Its public interface is ``RuleDefinition``, ``preview_rule``, ``make_rule`` and ``end_rule``.
"""

from .definition import InvalidRule, RuleDefinition, describe_rule
from .make import MadeRule, end_rule, make_rule
from .preview import Preview, preview_rule

__all__ = [
    "InvalidRule",
    "MadeRule",
    "Preview",
    "RuleDefinition",
    "describe_rule",
    "end_rule",
    "make_rule",
    "preview_rule",
]
