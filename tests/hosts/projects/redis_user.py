"""A user of Redis that may use only some keys and commands, with a password that must be quoted in a URL."""

from tests.hosts.base import *  # noqa: F403

NEEDS = ["redis_user"]
