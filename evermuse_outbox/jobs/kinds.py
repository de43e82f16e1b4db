"""What a job can do: one small class for each kind, in a registry.

A new kind needs a subclass of :class:`Kind` and a call of :func:`register`. The engine collects the members, calls
``perform`` for each chunk in its transaction, and counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from django.db import models
from django.utils.functional import Promise
from django.utils.translation import gettext as _

from ..models import ActionKind, Decision, OutboxRecord
from ..operations import NotPossible

Options = Mapping[str, Any]
"""The options of a job, as its row stores them."""


class Refusal(NamedTuple):
    """Why a member is not changed.

    ``reason`` is one of few texts, because refusals are counted by it. ``detail`` is about this member.
    """

    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


Refusals = dict[int, Refusal]
"""Id of a member → why it is not changed. All other members are changed."""


class Kind:
    """One kind of job. Its methods get ids of at most ``chunk`` rows of ``model``.

    Attributes:
        name: the stored name, at most 16 characters.
        label: what the kind does, for people.
        action: the kind of the manual action that the job records.
        model: the model whose ids the members are.
        columns: the columns of the model with the group and the size of a row; empty if it has none.
        permission: codename of the permission that a user of the admin needs.
        chunk: members that one transaction changes.
        page: members that one transaction collects and checks.
        sends: whether the changed records are sent, so that the job costs requests.
        is_final: whether it cannot be undone.
        has_members: whether it changes stored rows, which its page lists.
        hides_selection: whether the stored selection must not show texts that were searched for.
    """

    name: ClassVar[str]
    label: ClassVar[str | Promise]
    action: ClassVar[ActionKind]
    model: ClassVar[type[models.Model]] = OutboxRecord
    columns: ClassVar[tuple[str, ...]] = ("type", "product_id", "size")
    permission: ClassVar[str]
    chunk: ClassVar[int] = 500
    page: ClassVar[int] = 1_000
    sends: ClassVar[bool] = False
    is_final: ClassVar[bool] = False
    has_members: ClassVar[bool] = True
    hides_selection: ClassVar[bool] = False

    def is_offered(self) -> bool:
        """Return whether the admin offers this kind on its lists: the settings may not have what it needs."""
        return True

    def prepare(self, using: str, options: Options) -> None:
        """Check the options before the first member. Raise ``NotPossible`` if no member can be changed with them."""

    def check(self, using: str, pks: Sequence[int], options: Options) -> Refusals:
        """Return which members would be refused now. This changes nothing."""
        raise NotImplementedError

    def perform(self, using: str, pks: Sequence[int], decision: Decision, options: Options) -> Refusals:
        """Change the members, and return which were refused. The transaction of the chunk is open.

        A raised exception rolls the chunk back. Then its members are tried one by one.
        """
        raise NotImplementedError


_kinds: dict[str, Kind] = {}


def register(kind: type[Kind]) -> type[Kind]:
    """Make a kind known by its name. It can be used as a decorator of the class."""
    _kinds[kind.name] = kind()
    return kind


def get_kind(name: str) -> Kind:
    """Return the kind of that name.

    Raises:
        NotPossible: This version of the package has no such kind.
    """
    if name not in _kinds:
        text = _("There is no kind of job %(name)s; known: %(names)s.")
        raise NotPossible(text % {"name": repr(name), "names": ", ".join(sorted(_kinds))})
    return _kinds[name]


def kinds() -> dict[str, Kind]:
    """Return every kind by its name."""
    return dict(_kinds)
