"""django-jaiminho with the strategy *keep order*: it stores a function call, and a relay runs it.

Its other strategy runs the call after COMMIT in the same process, so it is not an outbox.
"""

from jaiminho.send import save_to_outbox

from . import http_client
from .base import *  # noqa: F403
from .base import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "jaiminho"]
JAIMINHO_CONFIG = {"PUBLISH_STRATEGY": "keep-order", "DELETE_AFTER_SEND": True}


@save_to_outbox
def deliver(record):
    """Post the record to the API."""
    http_client.post(record)


def enqueue(record):
    """Enqueue the record in the open transaction."""
    deliver(record)
