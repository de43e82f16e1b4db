"""The kinds of jobs that end the wait of batches: send now, release from doubt, give up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db import connections
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from ..delivery.context import Clock
from ..models import ActionKind, BatchState, Decision, OutboxBatch, OutboxWorkspace, by_id
from ..operations import WAITING, NotPossible, end_and_reject, skip_listing
from .kinds import Kind, Options, Refusal, Refusals, register
from .records import GONE

NOT_WAITING = gettext_noop("It waits for nothing")
NOT_IN_DOUBT = gettext_noop("It is not in doubt")
IS_LEASED = gettext_noop("A worker is sending it now")


class BatchKind(Kind):
    """A kind whose members are batches. A chunk is small, because a batch has up to 1,000 records."""

    model, permission, sends = OutboxBatch, "change_outboxbatch", True
    columns = ("type", "product_id", "byte_count")
    chunk = 100

    def check(self, using: str, pks: Sequence[int], options: Options) -> Refusals:
        """Refuse the batches in states in which this cannot be done."""
        refusal_by_pk = {batch.pk: self.refusal_of(batch) for batch in _read(using, pks)}
        refusals = {pk: refusal for pk, refusal in refusal_by_pk.items() if refusal}
        return refusals | {pk: Refusal(GONE) for pk in pks if pk not in refusal_by_pk}

    def perform(self, using: str, pks: Sequence[int], decision: Decision, options: Options) -> Refusals:
        """Change the batches that are in a suitable state."""
        if connections[using].features.has_select_for_update:
            list(OutboxBatch.objects.using(using).filter(by_id(pks)).order_by("pk").select_for_update())
        refusals = self.check(using, pks, options)
        self.change([batch for batch in _read(using, pks) if batch.pk not in refusals], using, decision)
        return refusals

    def refusal_of(self, batch: OutboxBatch) -> Refusal | None:
        """Return why a batch in this state is refused, or None."""
        raise NotImplementedError

    def change(self, batches: list[OutboxBatch], using: str, decision: Decision) -> None:
        """Change locked batches that are not refused."""
        raise NotImplementedError


@register
class SendNow(BatchKind):
    """Send or poll waiting batches now instead of later."""

    name, label, action = "send_now", _("Send or poll batches now"), ActionKind.RETRY_NOW

    def refusal_of(self, batch: OutboxBatch) -> Refusal | None:
        """Refuse batches that wait for no time."""
        is_waiting = batch.state in (*WAITING, BatchState.ISOLATING) or batch.next_poll_at is not None
        return None if is_waiting else Refusal(NOT_WAITING, str(batch.get_state_display()))

    def change(self, batches: list[OutboxBatch], using: str, decision: Decision) -> None:
        """Make the batches due; of an isolating one, the part that is tried."""
        _send_now(using, batches, Clock.of(using).now())


@register
class ReleaseDoubt(BatchKind):
    """Send batches in doubt again at once, with the same key and bytes, without reading the listing first."""

    name, label, action = "release_doubt", _("Send batches in doubt again"), ActionKind.RELEASE_DOUBT

    def refusal_of(self, batch: OutboxBatch) -> Refusal | None:
        """Refuse batches that are not in doubt."""
        is_in_doubt = batch.state == BatchState.IN_DOUBT
        return None if is_in_doubt else Refusal(NOT_IN_DOUBT, str(batch.get_state_display()))

    def change(self, batches: list[OutboxBatch], using: str, decision: Decision) -> None:
        """Make the batches due, and note in their attempts that the listing is skipped."""
        now = Clock.of(using).now()
        _send_now(using, batches, now)
        skip_listing(using, batches, now)


@register
class GiveUp(Kind):
    """End open batches, and reject their records."""

    name, label, action = "give_up", _("Give up batches"), ActionKind.GIVE_UP
    model, permission, is_final, chunk = OutboxBatch, "change_outboxbatch", True, 20
    columns = ("type", "product_id", "byte_count")

    def check(self, using: str, pks: Sequence[int], options: Options) -> Refusals:
        """Refuse batches that a worker is sending, and those that are over."""
        refusals: Refusals = dict.fromkeys(pks, Refusal(GONE))
        for batch in _read(using, pks):
            if batch.state == BatchState.SENDING:
                refusals[batch.pk] = Refusal(IS_LEASED)
            elif batch.state in (*WAITING, BatchState.ACCEPTED, BatchState.ISOLATING) or batch.next_poll_at:
                del refusals[batch.pk]
            else:
                refusals[batch.pk] = Refusal(NOT_WAITING, str(batch.get_state_display()))
        return refusals

    def perform(self, using: str, pks: Sequence[int], decision: Decision, options: Options) -> Refusals:
        """End the batches and reject their records."""
        names = OutboxBatch.objects.using(using).filter(by_id(pks)).values_list("workspace", flat=True)
        # In the order of their names, so that two jobs do not wait for each other.
        for name in sorted(set(names)):
            OutboxWorkspace.objects.using(using).lock_for_sealing(name)
        refusals, now = self.check(using, pks, options), Clock.of(using).now()
        for batch in _read(using, pks):
            if batch.pk in refusals:
                continue
            try:
                end_and_reject(using, batch, now, decision.reason)
            except NotPossible as error:
                refusals[batch.pk] = Refusal(NOT_WAITING, error.message)
        return refusals


def _read(using: str, pks: Sequence[int]) -> list[OutboxBatch]:
    return list(OutboxBatch.objects.using(using).filter(by_id(pks)).order_by("pk"))


def _send_now(using: str, batches: list[OutboxBatch], now: datetime) -> None:
    rows = OutboxBatch.objects.using(using)
    isolating = [batch.pk for batch in batches if batch.state == BatchState.ISOLATING]
    others = [batch.pk for batch in batches if batch.state not in (*WAITING, BatchState.ISOLATING)]
    rows.filter(by_id([batch.pk for batch in batches if batch.state in WAITING])).send_now(now)
    if isolating:
        rows.filter(parent_id__in=isolating).send_now(now)
    if others:
        rows.filter(by_id(others)).poll_now(now)
