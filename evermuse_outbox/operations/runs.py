"""Close a run by hand."""

from __future__ import annotations

from django.db import transaction
from django.utils.translation import gettext as _

from ..database_clock import database_now
from ..models import ActionKind, Decision, OutboxAction, OutboxRun
from .refusal import NotPossible


def close_run(using: str, pk: int, decision: Decision) -> None:
    """Close a run, so that it is finished when its records have ended. The same transaction records the action.

    Raises:
        NotPossible: The run is closed already, or it does not exist.
    """
    runs = OutboxRun.objects.using(using)
    run = runs.filter(pk=pk).first()
    with transaction.atomic(using=using):
        if run is None or not runs.close(pk, database_now(using)):
            raise NotPossible(_("The run is closed already, or it does not exist."))
        actions = OutboxAction.objects.using(using)
        actions.log(ActionKind.CLOSE_RUN, decision, workspace=run.workspace, target=str(run))
