"""django-jaiminho with its strategy *keep order*: the call of a function is stored, and a relay makes it.

Its other strategy makes the call in the host's process after COMMIT, which is no outbox.
"""

from jaiminho.send import save_to_outbox

from . import http_client
from .base import *  # noqa: F403
from .base import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "jaiminho"]
JAIMINHO_CONFIG = {"PUBLISH_STRATEGY": "keep-order", "DELETE_AFTER_SEND": True}


@save_to_outbox
def deliver(record):
    http_client.post(record)


def enqueue(record):
    deliver(record)
