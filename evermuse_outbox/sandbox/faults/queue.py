"""The faults that wait for requests: which request meets which of them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from .fault import Fault

MAX_SCRIPTED = 1_000
"""Scripted faults that can wait at a time. It bounds the memory, because a loop over HTTP can add many."""

RANDOM_FAULTS = (
    Fault.server_error(on="any"),
    Fault.bad_gateway(on="any"),
    Fault.too_many(on="any"),
    Fault.drop_before(on="any"),
    Fault.drop_after(on="any"),
)
"""The faults that random failures choose from, each with the same probability."""


@dataclass
class ScriptedFault:
    """A fault that waits for requests.

    Attributes:
        id: Number of the fault, unique in a run.
        remaining: Number of requests that it still affects. None means every request.
        until: Time at which it ends, in seconds of the sandbox's clock. None means that it does not end by time.
        affected: Number of requests that it has affected.
    """

    id: int
    fault: Fault
    remaining: int | None = 1
    until: float | None = None
    affected: int = 0

    def is_over(self, now: float) -> bool:
        """Return whether the fault affects no further request."""
        return self.remaining == 0 or (self.until is not None and now >= self.until)

    def fault_at(self, now: float) -> Fault:
        """Return the fault. A 429 that lasts for a time sends the rest of that time as ``retryAfter``."""
        if self.until is None or self.fault.status != 429 or self.fault.retry_after is not None:
            return self.fault
        return replace(self.fault, retry_after=max(0.001, round(self.until - now, 3)))


@dataclass
class RequestContent:
    """The body of a request, and what the records in it share. It is parsed only if a fault depends on it."""

    body: bytes

    @cached_property
    def first_record(self) -> Mapping[str, Any]:
        """The first record, or an empty mapping if there is none. All records share type and product."""
        content = parse_first(self.body)
        if isinstance(content, Mapping) and isinstance(content.get("records"), list):
            content = content["records"]
        if isinstance(content, list):
            content = content[0] if content else None
        return content if isinstance(content, Mapping) else {}

    def matches(self, fault: Fault) -> bool:
        """Return whether the content is one that the fault affects."""
        if fault.containing and fault.containing.encode() not in self.body:
            return False
        if fault.type and str(self.first_record.get("_type", "")).lower() != fault.type.lower():
            return False
        return not fault.product_id or self.first_record.get("_product_id") == fault.product_id


def parse_first(body: bytes) -> Any:
    """Return a JSON body, or the first line of an NDJSON body, or None if it is neither."""
    try:
        text = body.decode()
        first_line = text.partition("\n")[0]
        try:
            return json.loads(text)
        except ValueError:
            return json.loads(first_line)
    except (ValueError, RecursionError):
        return None


class FaultQueue:
    """Scripted faults in the order in which they were added, and random faults if no scripted fault applies.

    Args:
        percent: Share of the requests that meet a random fault, from 0 to 100.
        seed: Seed of the random numbers, to repeat a run.
    """

    def __init__(self, percent: float = 0.0, seed: int | None = None) -> None:
        self.percent = percent
        self._rng = random.Random(seed)  # noqa: S311 - not used for cryptography
        self._queue: list[ScriptedFault] = []
        self._last_id = 0

    # --- What waits -------------------------------------------------------------------------------

    def add(self, fault: Fault, count: int | None, until: float | None = None) -> ScriptedFault:
        """Apply ``fault`` to the next ``count`` requests. None means every request, until a time or :meth:`clear`.

        Raises:
            ValueError: Too many faults wait.
        """
        if len(self._queue) >= MAX_SCRIPTED:
            raise ValueError(f"{MAX_SCRIPTED} faults wait for requests: clear them before you add others")
        self._last_id += 1
        scripted = ScriptedFault(self._last_id, fault, count, until)
        self._queue.append(scripted)
        return scripted

    def clear(self) -> None:
        """Remove every scripted fault."""
        self._queue.clear()

    def remove(self, fault_id: int) -> bool:
        """Remove a scripted fault. Return whether it was there."""
        before = len(self._queue)
        self._queue = [scripted for scripted in self._queue if scripted.id != fault_id]
        return len(self._queue) < before

    def waiting(self, now: float) -> list[ScriptedFault]:
        """Return the scripted faults that can still affect requests, in the order in which they were added."""
        self._queue = [scripted for scripted in self._queue if not scripted.is_over(now)]
        return list(self._queue)

    # --- What a request meets ---------------------------------------------------------------------

    def take(self, method: str, now: float) -> Fault | None:
        """Consume and return the fault for the next request with ``method``, or return None if there is none."""
        return self._take(method, now, lambda fault: not fault.depends_on_content) or self._choose_random()

    def take_by_content(self, method: str, body: bytes, now: float) -> Fault | None:
        """Consume and return the fault for a request with this body, or return None if there is none."""
        content = RequestContent(body)
        return self._take(method, now, lambda fault: fault.depends_on_content and content.matches(fault))

    def rejections(self, body: bytes, now: float) -> list[ScriptedFault]:
        """Return the faults that may reject records of a POST with this body. They are not consumed."""
        content = RequestContent(body)
        return [
            scripted
            for scripted in self.waiting(now)
            if scripted.fault.reject is not None and content.matches(scripted.fault)
        ]

    def consume(self, scripted: ScriptedFault) -> bool:
        """Count a request that a fault affects. Return False if another request has consumed it meanwhile."""
        if scripted not in self._queue:
            return False
        scripted.affected += 1
        if scripted.remaining is not None:
            scripted.remaining -= 1
            if not scripted.remaining:
                self.remove(scripted.id)
        return True

    def _take(self, method: str, now: float, is_wanted: Callable[[Fault], bool]) -> Fault | None:
        for scripted in self.waiting(now):
            fault = scripted.fault
            if fault.reject is None and fault.on in (method, "any") and is_wanted(fault):
                self.consume(scripted)
                return scripted.fault_at(now)
        return None

    def _choose_random(self) -> Fault | None:
        if self._rng.random() * 100 >= self.percent:
            return None
        return self._rng.choice(RANDOM_FAULTS)
