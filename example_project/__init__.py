"""A small support desk that shows how a Django project uses evermuse_outbox."""

from .celery import app as celery_app

__all__ = ["celery_app"]
