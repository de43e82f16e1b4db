"""Indexes that only some hosts need, with the condition.

An index costs time at each INSERT. A host that does not use the feature has no such index. So these indexes are in no
``Meta.indexes``: the state of the migrations is the same for every host. ``manage.py outbox_indexes`` builds them when
the condition is met. It never removes one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.core.exceptions import ImproperlyConfigured
from django.db import connections, models
from django.db.models import Q

from ..conf import get_settings
from ..models import OutboxLabelSet
from ..models.indexes import PartialIndex

SHARES_INDEX = "evermuse_record_shares"
"""The index that finds the pending records of each label set of a group."""


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


def _uses_labels_without_partial_indexes(using: str) -> bool:
    has_partial_indexes = connections[using].features.supports_partial_indexes
    return not has_partial_indexes and OutboxLabelSet.objects.using(using).exists()


def _uses_fair_shares(_using: str) -> bool:
    try:
        return any(workspace.fair_shares for workspace in get_settings().workspaces.values())
    except ImproperlyConfigured:  # another check reports it
        return False


CONDITIONAL_INDEXES: list[ConditionalIndex] = [
    ConditionalIndex(
        model="OutboxRecord",
        index=models.Index(name="evermuse_record_labels", fields=["label_set_id", "id"]),
        is_wanted=_uses_labels_without_partial_indexes,
        condition="records have labels; on MySQL and MariaDB",
    ),
    ConditionalIndex(
        model="OutboxRecord",
        index=PartialIndex(
            name=SHARES_INDEX,
            fields=["workspace", "type", "product_id", "label_set_id", "enqueued_at", "id"],
            where=Q(batch__isnull=True, closed_as__isnull=True),
            instead=[
                "batch",
                "closed_as",
                "workspace",
                "type",
                "product_id",
                "label_set_id",
                "enqueued_at",
                "id",
            ],
        ),
        is_wanted=_uses_fair_shares,
        condition="a workspace has FAIR_SHARES",
    ),
]
