"""django-outbox-pattern: a row of ``Published``, sent by ``manage.py publish``.

It speaks STOMP to a broker; what speaks is a setting, and here it posts. A user with a broker between would
pay its hop and a subscriber with a table of its own besides.
"""

from .base import *  # noqa: F403
from .base import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "django_outbox_pattern"]
DJANGO_OUTBOX_PATTERN = {"DEFAULT_CONNECTION_CLASS": f"{__name__}.HttpConnection"}


class HttpConnection:
    """As much of ``stomp.StompConnection12`` as the publisher calls."""

    def __init__(self, **_):
        self._connected = False

    def connect(self, **_):
        self._connected = True

    def is_connected(self):
        return self._connected

    def disconnect(self):
        self._connected = False

    def send(self, body, destination, headers):
        from requests import RequestException
        from stomp.exception import StompException

        from .http_client import post_line

        try:
            post_line(body, destination.removeprefix("/queue/"))
        except RequestException as error:
            raise StompException from error


def enqueue(record):
    from django_outbox_pattern.models import Published

    from .http_client import key_of

    Published.objects.create(destination=f"/queue/{key_of(record)}", body=record)
