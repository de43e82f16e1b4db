"""A backup of the outbox's tables by SQL, and its restore, for tests that need no dump of a real database."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db import models, transaction

Backup = dict[type[models.Model], list[dict[str, Any]]]


def take_backup(alias: str) -> Backup:
    """Return all rows of the outbox's tables."""
    return {model: list(model._base_manager.using(alias).values()) for model in _tables()}


def restore_backup(alias: str, backup: Backup) -> None:
    """Replace all rows of the outbox's tables with those of the backup."""
    with transaction.atomic(using=alias):
        for model in reversed(_tables()):
            model._base_manager.using(alias).all()._raw_delete(alias)  # without the hooks of the ORM
        for model, rows in backup.items():
            model._base_manager.using(alias).bulk_create([model(**row) for row in rows], batch_size=100)


def _tables() -> list[type[models.Model]]:
    return [model for model in apps.get_app_config("evermuse_outbox").get_models() if not model._meta.proxy]
