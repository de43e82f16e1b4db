"""django-outbox-pattern: it stores a row of ``Published``, and ``manage.py publish`` sends it.

By default it sends to a broker with the STOMP protocol. Its connection class is a setting, and the class here posts to
the API. With a broker, a user would also need a subscriber, which writes to a table of its own.
"""

from .base import *  # noqa: F403
from .base import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "django_outbox_pattern"]
DJANGO_OUTBOX_PATTERN = {"DEFAULT_CONNECTION_CLASS": f"{__name__}.HttpConnection"}


class HttpConnection:
    """A connection with the methods of ``stomp.StompConnection12`` that the publisher calls."""

    def __init__(self, **_):
        self._connected = False

    def connect(self, **_):
        """Note that the connection is open. Nothing is connected before the first record."""
        self._connected = True

    def is_connected(self):
        """Return whether ``connect`` was called."""
        return self._connected

    def disconnect(self):
        """Note that the connection is closed."""
        self._connected = False

    def send(self, body, destination, headers):
        """Post the record. Raises ``StompException`` if that fails, so that the publisher tries again."""
        from requests import RequestException
        from stomp.exception import StompException

        from .http_client import post_line

        try:
            post_line(body, destination.removeprefix("/queue/"))
        except RequestException as error:
            raise StompException from error


def enqueue(record):
    """Enqueue the record in the open transaction."""
    from django_outbox_pattern.models import Published

    from .http_client import key_of

    Published.objects.create(destination=f"/queue/{key_of(record)}", body=record)
