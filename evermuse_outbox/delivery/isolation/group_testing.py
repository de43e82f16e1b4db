"""Which records to try next, where a refusal names nobody. Pure: counts go in, a count comes out.

Each request tells one bit: all that it held are good (and delivered by it), or at least one of them is bad. A bad
one is known as such only when it was refused alone, so that what is said of it is said of it alone.

The records that are left stand in order. Of the first ``suspects`` it is known that at least one is bad; they are
halved until it is alone. Where nothing is known, ``stride`` of them are tried at once: so many that a refusal is
as likely as not, judged by the share of bad ones until here (the choice that learns most from one request), and
twice as many after each time that all were good.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Search:
    """What is known so far.

    For *d* bad records in *n* it needs at most 1.1 log₂ C(n, d) + d + 10 requests, the first one included; any
    way that learns one bit a request needs log₂ C(n, d), and *d* to try each bad one alone.

    ``stride`` 0 stands for all. ``sample`` says that the record under way is the last one, tried out of turn.
    """

    suspects: int = 0
    stride: int = 0
    found: int = 0
    cleared: int = 0
    sample: bool = False

    def next_size(self, left: int) -> int:
        """How many of the ``left`` records to try next: the first so many, or the last one if ``sample``."""
        if self.sample:
            return 1
        if self.suspects:
            return max(self.suspects // 2, 1)
        return min(self.stride or left, left)

    def after_good(self, size: int, left: int) -> Search:
        """All ``size`` that were tried are good; ``left`` are left beside them."""
        cleared = self.cleared + size
        if self.sample:
            return replace(self, sample=False, suspects=min(self.suspects, left), cleared=cleared)
        if self.suspects:
            return replace(self, suspects=self.suspects - size, cleared=cleared)
        return replace(self, stride=2 * self.stride, cleared=cleared)

    def after_bad(self, size: int, left: int) -> Search:
        """At least one of the ``size`` that were tried is bad; ``left`` are left beside them."""
        if size > 1:
            return replace(self, suspects=size)
        suspects = self.suspects if self.sample and self.suspects <= left else 0
        found = self.found + 1
        stride = _even_odds(found / (found + self.cleared))
        return replace(self, sample=False, found=found, suspects=suspects, stride=stride)

    def after_names(self, bad: int) -> Search:
        """So many were named at once: whoever is left is tried together."""
        return Search(found=self.found + bad, cleared=self.cleared)

    def without_suspicion(self) -> Search:
        """A record has left that may have been the bad one."""
        return replace(self, suspects=0)

    def with_sample(self) -> Search:
        """The last record next, out of turn."""
        return replace(self, sample=True)


def _even_odds(share: float) -> int:
    """How many records have at least one bad one among them as likely as not."""
    return max(int(math.log(2) / -math.log1p(-share)), 1) if share < 0.5 else 1
