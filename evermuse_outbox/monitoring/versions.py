"""The versions of the processes at work, and the features in use that an old one of them does not know.

During an upgrade, workers of two versions deliver from the same tables. A worker of the version before ignores what it
does not know: it would send a record that a rule holds. So a feature is used after the last old worker has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.db.models import Count

from ..conf import get_settings
from ..database_clock import database_now
from ..encryption import is_on
from ..models import OutboxDataKey, OutboxDeferral, OutboxRule, OutboxWorker
from ..version import SCHEMA
from .heartbeats import MISSING_AFTER


@dataclass(frozen=True, slots=True)
class Feature:
    """Something that workers before a migration do not know.

    Attributes:
        name: Its name, in the plural, as the subject of a sentence.
        migration: Number of the migration that brought it.
        is_on: Returns for a database alias whether it is in use there. It must be cheap.
    """

    name: str
    migration: int
    is_on: Callable[[str], bool]


FEATURES = (
    Feature("times of records", 14, lambda using: OutboxDeferral.objects.using(using).exists()),
    Feature("standing rules", 15, lambda using: OutboxRule.objects.using(using).active().exists()),
    Feature(
        "several API keys", 16, lambda _: any(w.further_keys for w in get_settings().workspaces.values())
    ),
    Feature("encryption", 17, lambda using: is_on() or OutboxDataKey.objects.using(using).exists()),
)
"""The features that an old worker would break. It may ignore others, such as labels."""


def versions_at_work(using: str) -> dict[str, int]:
    """Return version → number of processes that were seen in the last three minutes. This is one small query."""
    recent = OutboxWorker.objects.using(using).seen_since(database_now(using) - MISSING_AFTER)
    counts = recent.order_by("version").values("version").annotate(count=Count("pk"))
    return dict(counts.values_list("version", "count"))


def schema_of(version: str) -> int:
    """Return the number of the newest migration that a version knows; 0 for a version before there was a number."""
    number = version.partition("+")[2]
    return int(number) if number.isdecimal() else 0


def unknown_features(using: str, versions: dict[str, int]) -> list[str]:
    """Return the names of the features in use that a version at work does not know."""
    oldest = min(map(schema_of, versions), default=SCHEMA)
    return [feature.name for feature in FEATURES if oldest < feature.migration and feature.is_on(using)]


def describe_versions(versions: dict[str, int]) -> str:
    """Return the versions and how many processes run each, such as ``0.1.0 (2), 0.2.0+18 (1)``."""
    return ", ".join(f"{version} ({count:,})" for version, count in sorted(versions.items()))
