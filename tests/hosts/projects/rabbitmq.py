"""RabbitMQ as the broker, with PostgreSQL."""

from tests.hosts.base import *  # noqa: F403

NEEDS = ["postgres", "rabbitmq"]
