"""The order of records inside a group: fair shares for the values of a label, and newest first after an outage."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from ...foreign_text import safe_repr
from .values import LABEL_NAMES, InvalidValue, Number, is_label_name, suggest

SHARES_EXAMPLE = 'Use for instance {"label": "customer", "weights": {"acme": 3}}.'
NEWEST_EXAMPLE = 'Use for instance {"after": timedelta(minutes=10), "backlog_share": 0.2}.'

WEIGHT = Number(0.01, 1_000, "")
SECONDS = Number(1, 31_536_000, "seconds")
BACKLOG_SHARE = Number(0.01, 0.99, "")


@dataclass(frozen=True, slots=True)
class FairShares:
    """The label whose values share the requests of a group, and the weights of values. Others have the weight 1."""

    label: str
    weights: Mapping[str, float] = field(default_factory=lambda: types.MappingProxyType({}))

    def weight_of(self, value: str | None) -> float:
        """Return the weight of a value of the label; None stands for records without the label."""
        return self.weights.get(value, 1.0) if value is not None else 1.0


@dataclass(frozen=True, slots=True)
class NewestFirst:
    """When the newest records of a group go first, and the share of its oldest ones meanwhile.

    Attributes:
        after: the age in seconds of the oldest pending record of a group from which on its newest go first.
        backlog_share: the share of each request for the oldest records, more than 0.
    """

    after: float
    backlog_share: float = 0.2


def read_fair_shares(value: Any) -> FairShares | None:
    """Return the label and the weights of fair shares; None if there are none."""
    if value is None:
        return None
    _check_keys(value, ("label", "weights"), "label", SHARES_EXAMPLE)
    label, weights = value["label"], value.get("weights", {})
    if not is_label_name(label):
        raise InvalidValue(
            f"label: {safe_repr(label)} is not the name of a label: {LABEL_NAMES}.", SHARES_EXAMPLE
        )
    if not isinstance(weights, Mapping) or not all(isinstance(name, str) for name in weights):
        raise InvalidValue(
            "weights: the value must be a dict from a value of the label to a number.", SHARES_EXAMPLE
        )
    read = {
        name: float(_read_part(f"weights[{safe_repr(name)}]", WEIGHT, weights[name], SHARES_EXAMPLE))
        for name in weights
    }
    return FairShares(label, types.MappingProxyType(read))


def read_newest_first(value: Any) -> NewestFirst | None:
    """Return from which age of the backlog the newest records go first; None if the oldest always do."""
    if value is None:
        return None
    _check_keys(value, ("after", "backlog_share"), "after", NEWEST_EXAMPLE)
    after = value["after"]
    seconds = after / timedelta(seconds=1) if isinstance(after, timedelta) else after
    return NewestFirst(
        float(_read_part("after", SECONDS, seconds, NEWEST_EXAMPLE)),
        float(_read_part("backlog_share", BACKLOG_SHARE, value.get("backlog_share", 0.2), NEWEST_EXAMPLE)),
    )


def _check_keys(value: Any, known: tuple[str, ...], required: str, example: str) -> None:
    if not isinstance(value, Mapping):
        raise InvalidValue(f"{safe_repr(value)} is not a dict.", example)
    for name in value:
        if name not in known:
            raise InvalidValue(f"{safe_repr(name)} is not one of its keys.", suggest(name, known))
    if required not in value:
        raise InvalidValue(f"{required} is missing.", example)


def _read_part(name: str, read: Number, value: Any, example: str) -> Any:
    try:
        return read(value)
    except InvalidValue as error:
        raise InvalidValue(f"{name}: {error.message}", error.hint or example) from None
