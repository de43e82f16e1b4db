"""An ASGI application that enqueues in an async view, and connections that end with the request."""

from tests.hosts.base import *  # noqa: F403

NEEDS = ["postgres", "redis"]

ENQUEUE_PATH = "/async/enqueue/"
