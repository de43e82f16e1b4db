"""The Django app: its name, and its system checks."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import Tags, register
from django.db.models.signals import post_migrate
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _


class EvermuseOutboxConfig(AppConfig):
    """Configuration of ``"evermuse_outbox"`` in ``INSTALLED_APPS``."""

    name = "evermuse_outbox"
    verbose_name = _("Evermuse outbox")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks, and import the module ``outbox_records`` of each app, which declares records."""
        from .checks import check_settings, check_storage
        from .runs import forget_label_sets

        post_migrate.connect(forget_label_sets)  # also sent after a flush
        register(check_settings)
        register(check_storage, Tags.database)
        autodiscover_modules("outbox_records")
