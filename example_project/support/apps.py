"""The Django app of the support desk."""

from django.apps import AppConfig


class SupportConfig(AppConfig):
    """Configuration of the app ``example_project.support``. Its tables begin with ``support_``."""

    name = "example_project.support"
    label = "support"
    verbose_name = "Support desk"
    default_auto_field = "django.db.models.BigAutoField"
