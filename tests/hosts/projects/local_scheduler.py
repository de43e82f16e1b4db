"""The scheduler of django-celery-beat, and no support for time zones, in a zone with daylight saving time."""

from tests.hosts.base import *  # noqa: F403
from tests.hosts.base import INSTALLED_APPS

NEEDS = ["mariadb", "redis", "django_celery_beat"]

USE_TZ = False
TIME_ZONE = "America/New_York"  # ahead of UTC, its scheduler sends nothing for hours: check W015
CELERY_TIMEZONE = TIME_ZONE
DJANGO_CELERY_BEAT_TZ_AWARE = False
INSTALLED_APPS = [*INSTALLED_APPS, "django_celery_beat"]
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
