"""Indexes that only some hosts need, with the condition.

An index costs time at each INSERT. A host that does not use the feature has no such index. So these indexes are in no
``Meta.indexes``: the state of the migrations is the same for every host. ``manage.py outbox_indexes`` builds them when
the condition is met. It never removes one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.db import models


@dataclass(frozen=True, slots=True)
class ConditionalIndex:
    """An index of a model of this app, and when it is wanted.

    Attributes:
        model: Name of the model.
        index: The index.
        is_wanted: Returns for a database alias whether the index is wanted there. It must be cheap.
        condition: When it is wanted, as the end of the sentence "It is built if …".
    """

    model: str
    index: models.Index
    is_wanted: Callable[[str], bool]
    condition: str


CONDITIONAL_INDEXES: list[ConditionalIndex] = []
