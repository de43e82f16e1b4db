"""The states of a batch, and the changes between them that are legal."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .transitions import Transition


class BatchState(models.TextChoices):
    """The state of a batch in the outbox. ``remote_status`` is the status that Evermuse reports."""

    SEALED = "sealed", _("sealed")
    SENDING = "sending", _("sending")
    IN_DOUBT = "in_doubt", _("in doubt")
    ACCEPTED = "accepted", _("accepted")
    COMPLETE = "complete", _("complete")
    REFUSED = "refused", _("refused")
    SPLIT = "split", _("split")
    ISOLATING = "isolating", _("isolating")
    FAILED = "failed", _("failed")
    WITHDRAWN = "withdrawn", _("withdrawn")


SENDABLE = (BatchState.SEALED, BatchState.IN_DOUBT)
"""States in which a batch waits to be sent, or to be sent again."""

OPEN = (*SENDABLE, BatchState.SENDING, BatchState.ACCEPTED, BatchState.ISOLATING)
"""States in which a batch is not finished."""

REMOTE = (BatchState.ACCEPTED, BatchState.COMPLETE)
"""States in which a batch must have the id that Evermuse gave it."""

INITIAL_STATES = (BatchState.SEALED, BatchState.SENDING, BatchState.IN_DOUBT)
"""A batch is sealed for later, or sealed and leased in one INSERT. The rest of a batch in doubt stays in doubt."""

TRANSITIONS = {
    "lease": Transition(SENDABLE, BatchState.SENDING),
    "requeue": Transition((BatchState.SENDING,), BatchState.SEALED),
    "mark_in_doubt": Transition((BatchState.SENDING,), BatchState.IN_DOUBT),
    "accept": Transition((BatchState.SENDING,), BatchState.ACCEPTED),
    "refuse": Transition((BatchState.SENDING,), BatchState.REFUSED),
    "split_changed": Transition((BatchState.SENDING,), BatchState.SPLIT),
    "complete": Transition((BatchState.ACCEPTED,), BatchState.COMPLETE),
    "fail_accepted": Transition((BatchState.ACCEPTED,), BatchState.FAILED),
    "refuse_accepted": Transition((BatchState.ACCEPTED,), BatchState.REFUSED),
    "isolate": Transition((BatchState.REFUSED, BatchState.ISOLATING), BatchState.ISOLATING),
    "split": Transition((BatchState.REFUSED, BatchState.ISOLATING), BatchState.SPLIT),
    "abandon": Transition((BatchState.IN_DOUBT,), BatchState.WITHDRAWN),
    "withdraw": Transition((BatchState.SEALED, BatchState.ISOLATING), BatchState.WITHDRAWN),
}
