"""Adaptive group testing: decide which records to try next if a refusal names no record. Pure: numbers in, numbers out.

Each request is a test of several records. Evermuse accepts all of them, or it refuses all of them because at least one
is bad. A record is known to be bad only if it was refused alone: then the message is about it. Without group testing,
each record of a refused batch would need a request of its own.

The remaining records are in order. At least one of the first ``suspects`` records is bad, and they are halved until it
is alone. If there are no suspects, ``test_size`` records are tried at once. It is chosen by the share of bad records so
far: a refusal is as likely as an acceptance, because such a test gives the most information. It doubles after each
accepted test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

MAX_SAMPLES = 2
"""Further samples after the first one if no batch of the workspace passes."""


@dataclass(frozen=True, slots=True)
class IsolationTest:
    """What is known so far about the records of a batch.

    For *d* bad records in *n*, at most 1.1 log₂ C(n, d) + d + 10 requests are needed, the first one included. Every
    method that learns one bit per request needs log₂ C(n, d), and *d* more to try each bad record alone.
    """

    suspects: int = 0
    """At least one of so many first records is bad; 0 if nothing is known."""
    test_size: int = 0
    """Records to try at once if there are no suspects; 0 for all."""
    bad: int = 0
    """Records that were rejected so far."""
    good: int = 0
    """Records that were accepted so far."""
    samples: int = 0
    """Samples in a row that were tried without another batch that has passed."""
    by_failures: bool = False
    """Whether the batch failed again and again; False if it was refused."""
    is_sample: bool = False
    """Whether the test under way is a sample: the last record, tried alone to find out if the group is at fault."""

    def next_size(self, remaining: int) -> int:
        """Return how many of the ``remaining`` records to try next: the first ones, or the last one for a sample."""
        if self.is_sample:
            return 1
        if self.suspects:
            return max(self.suspects // 2, 1)
        return min(self.test_size or remaining, remaining)

    def after_good(self, size: int, remaining: int) -> IsolationTest:
        """Return the state after a test of ``size`` records that are all good; ``remaining`` others are left."""
        good = self.good + size
        if self.is_sample:
            return replace(self, is_sample=False, suspects=min(self.suspects, remaining), good=good)
        if self.suspects:
            return replace(self, suspects=self.suspects - size, good=good)
        return replace(self, test_size=2 * self.test_size, good=good)

    def after_bad(self, size: int, remaining: int) -> IsolationTest:
        """Return the state after a test of ``size`` records with a bad one; ``remaining`` others are left."""
        if size > 1:
            return replace(self, suspects=size)
        suspects = self.suspects if self.is_sample and self.suspects <= remaining else 0
        bad = self.bad + 1
        test_size = _even_odds_size(bad / (bad + self.good))
        return replace(self, is_sample=False, bad=bad, suspects=suspects, test_size=test_size)

    def after_named(self, bad: int) -> IsolationTest:
        """Return the state after an answer that named ``bad`` records: the others are tried together."""
        return replace(self, is_sample=False, suspects=0, test_size=0, bad=self.bad + bad)

    def after_unclear(self) -> IsolationTest:
        """Return the state after a test that failed although no other batch has passed: nothing is known.

        A few samples are tried, because the first one may be bad itself. Then all other records are tried together.
        """
        has_samples_left = self.samples < MAX_SAMPLES
        samples = self.samples + 1 if has_samples_left else 0
        return replace(self, is_sample=has_samples_left, samples=samples, suspects=0, test_size=0)

    def without_suspects(self) -> IsolationTest:
        """Return the state after a suspect has left the batch, because it may have been the only bad one."""
        return replace(self, suspects=0)

    def with_sample(self) -> IsolationTest:
        """Return the state in which the last record is tried next, out of order."""
        return replace(self, is_sample=True)

    def to_json(self) -> dict[str, Any]:
        """Return the value of the batch's column ``isolation``."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> IsolationTest:
        """Read the column's value. Ignore unknown keys: with less knowledge, isolation only needs more requests."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: known for name, known in (value or {}).items() if name in names})


def _even_odds_size(bad_share: float) -> int:
    """Return the number of records that contain a bad one with a probability of one half."""
    return max(int(math.log(2) / -math.log1p(-bad_share)), 1) if bad_share < 0.5 else 1
