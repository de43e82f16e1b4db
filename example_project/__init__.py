"""A small support desk that uses evermuse_outbox the way a host would."""

from .celery import app as celery_app

__all__ = ["celery_app"]
