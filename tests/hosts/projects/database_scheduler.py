"""The scheduler of django-celery-beat, which keeps its schedule in the database."""

from tests.hosts.base import *  # noqa: F403
from tests.hosts.base import INSTALLED_APPS

NEEDS = ["postgres", "redis", "django_celery_beat"]

INSTALLED_APPS = [*INSTALLED_APPS, "django_celery_beat"]
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
