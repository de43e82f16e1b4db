"""Threads for the tests of connections: each begins without a connection, as a thread of a worker does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from django.db import connections


def call_in_thread(function, *arguments):
    """Call the function in a new thread and return its result. Close what it leaves open."""

    def call():
        try:
            return function(*arguments)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as executor:
        return executor.submit(call).result(60)


def held():
    """Return the aliases of the databases of which the calling thread holds a connection."""
    return [each.alias for each in connections.all(initialized_only=True) if each.connection is not None]
