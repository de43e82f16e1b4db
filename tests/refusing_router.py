"""A database router that refuses every query of the package, so that each query must name its database.

A host may have a router that reads from a replica. A replica can be behind, or down. So the package names the database
in every query, and all tests run under this router. It names the file and line of a query that uses it.

The admin may read through the router, and the host's code may, too. Here, that is the tests and the example project.
On Django 6.1 and newer, the package must also not load a deferred field or a relation at its first use.
"""

from __future__ import annotations

import sys
from pathlib import Path

import django

import evermuse_outbox

PACKAGE = Path(evermuse_outbox.__file__).parent
DJANGO = Path(django.__file__).parent

MAY_ROUTE = (PACKAGE / "admin",)
"""Folders of the package whose queries may use the router."""

CHOICES = {
    ("outbox.py", "_database_alias"),
    ("record.py", "discard"),
    ("registry.py", "save_base_in_transaction"),
    ("declaration.py", "read_path"),
}
"""File and function that ask the router on behalf of the host, if the host named no database.

The last two save and read a row of the host, as its declaration says."""


class RoutedQuery(AssertionError):
    """A query of the package uses the router, or it loads a value at its first use."""


class RefusingRouter:
    """Refuse to choose a database for the package; leave the choice for all other code to Django."""

    def db_for_read(self, model, **hints):
        refuse_package(f"a read of {model.__name__} uses the router")

    def db_for_write(self, model, **hints):
        refuse_package(f"a write of {model.__name__} uses the router")


def refuse_package(what):
    """Raise ``RoutedQuery`` if the nearest code outside of Django is the package's."""
    frame = sys._getframe(1)
    while frame and _is_between(Path(frame.f_code.co_filename)):
        frame = frame.f_back
    if frame is None:
        return
    path, function = Path(frame.f_code.co_filename), frame.f_code.co_name
    is_refused = path.is_relative_to(PACKAGE) and not any(path.is_relative_to(folder) for folder in MAY_ROUTE)
    if is_refused and (path.name, function) not in CHOICES:
        raise RoutedQuery(f"{what}: {path}:{frame.f_lineno}, in {function}")


def _is_between(path):
    """Return whether a frame only passes a query on: it is Django's, this module's, or of generated code."""
    return path.is_relative_to(DJANGO) or path == Path(__file__) or str(path).startswith("<")


def refuse_loads_at_first_use():
    """Make every query set of Django 6.1 and newer refuse the package's loads of deferred fields and relations."""
    if django.VERSION < (6, 1):
        return
    from django.db.models import query
    from django.db.models.fetch_modes import FETCH_ONE, FetchMode

    class RefusePackage(FetchMode):
        """As ``FETCH_RAISE``, for the package alone."""

        __slots__ = ()

        def fetch(self, fetcher, instance):
            refuse_package(f"{type(instance).__name__}.{fetcher.field.name} is loaded at its first use")
            FETCH_ONE.fetch(fetcher, instance)

    query.DEFAULT_FETCH_MODE = RefusePackage()
