"""An API that only an HTTP proxy can reach. The environment names the proxy and the file of its CA certificates."""

from tests.hosts.base import *  # noqa: F403

NEEDS = ["redis", "http_proxy"]
