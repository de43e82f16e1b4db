"""The Celery app of the example project. Start it with ``celery -A example_project worker -B``."""

import os

from celery import Celery

from . import filebroker

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")

filebroker.install()
app = Celery("example_project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
