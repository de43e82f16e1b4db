"""Renew the URLs of attachments before a batch is sent, with the function of the setting ``RENEW_URL``.

Signed links of a cloud storage are valid for minutes, and a record may wait for hours. The function runs outside of any
transaction and without a database connection, because it may call the storage. The batch then gets its new bytes, and a
new key with them. A batch that Evermuse may have keeps its bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any

from billiard.exceptions import SoftTimeLimitExceeded
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.utils.module_loading import import_string

from ...conf import SETTING
from ...evermuse import fingerprint
from ...evermuse.records import make_checksum, replace_urls
from ...foreign_text import describe_error, get_logger
from ...models import NOT_RENEWED, OutboxBatch, OutboxRecord, OutboxRejection, raise_if_waiting
from ...models.payloads import stored_forms
from ..connections import release_connections
from ..context import DeliveryContext
from ..sealing import (
    BodyChanged,
    SealedBatch,
    lock_for_sealing,
    new_key,
    open_sealed,
    read_members,
    request_limits,
)
from ..settling import split_changed_batch

logger = get_logger(__name__)

RenewUrl = Callable[[dict[str, Any], dict[str, Any]], str]
"""The function of the host: it takes the attachment and its record, and returns the new URL."""

LEASE_SHARE = 0.5
"""The lease is extended when this share of it is over, so that many slow calls do not outlast it. The rest is longer
than ``TIMEOUT``, because ``LEASE`` is at least twice as long."""

IMPORT_PAUSE = 10.0
"""Seconds for which a batch waits if the function cannot be imported."""

LINES_PER_STATEMENT = 100
"""Lines that one UPDATE writes. A line may be large, and few requests have many attachments."""

COLUMNS = ["payload", "size", "checksum"]


class LeaseLost(Exception):
    """Another worker has taken the batch over, so this one changes nothing."""


@dataclass(slots=True)
class Renewal:
    """What the function of the host gave.

    Attributes:
        lines: the new lines by the id of the record.
        growth: how many bytes they have more than the old ones.
        rejections: one for each record for which the function failed.
    """

    lines: dict[int, str] = field(default_factory=dict)
    growth: int = 0
    rejections: list[OutboxRejection] = field(default_factory=list)

    def add_line(self, pk: int, before: str, after: str) -> None:
        """Add the new line of a record."""
        self.lines[pk] = after
        self.growth += len(after.encode()) - len(before.encode())


def renew_urls(context: DeliveryContext, sealed: SealedBatch) -> SealedBatch | None:
    """Give new URLs to the attachments of a leased batch, if they are due. Return the batch with its new bytes.

    Return None if it cannot be sent now: the function failed for a record, so the others were sealed again without it;
    the function cannot be imported, so the batch waits; or the lease was lost.
    """
    batch = sealed.batch
    if not _is_due(context, batch):
        return sealed
    try:
        renewal = _call_function(context, batch)
        return context.run_with_retries(_write, context, sealed, renewal)
    except LeaseLost:
        return None
    except BodyChanged as error:
        logger.warning("%s; its records are sealed again", error, extra=context.log_ids(batch=batch.pk))
        context.run_with_retries(split_changed_batch, context, batch)
        return None
    except ImproperlyConfigured as error:
        # Only this batch waits: the others need no function.
        logger.error("%s", error, extra=context.log_ids(batch=batch.pk))
        _give_back(context, batch, due_at=context.clock.after(IMPORT_PAUSE), message=str(error))
        return None
    except BaseException:
        # A signal or a time limit ends the run. Nothing of the batch was sent, so it is not in doubt.
        _give_back(context, batch)
        raise


def _give_back(context: DeliveryContext, batch: OutboxBatch, **columns: Any) -> None:
    rows = OutboxBatch.objects.using(context.using)
    context.run_with_retries(rows.give_back, batch, **columns)


def _is_due(context: DeliveryContext, batch: OutboxBatch) -> bool:
    if not context.settings.renew_url or not batch.attachment_count or batch.in_doubt:
        return False
    oldest = context.clock.now() - timedelta(seconds=context.settings.renewed_url_ttl)
    return batch.urls_renewed_at is None or batch.urls_renewed_at < oldest


def _call_function(context: DeliveryContext, batch: OutboxBatch) -> Renewal:
    """Call the function for each attachment. An exception concerns only its record."""
    function = load_renew_url(context.settings.renew_url or "")
    lines = context.run_with_retries(_read_lines, context, batch)
    renewal = Renewal()
    for pk, line in lines.items():
        release_connections()
        _extend_lease(context, batch)
        try:
            renewal.add_line(pk, line, replace_urls(line, partial(_call, function, line)))
        except SoftTimeLimitExceeded:  # an Exception that ends the task, raised in whatever code it executes
            raise
        except Exception as error:  # whatever the function of the host raises
            renewal.rejections.append(_rejection(context, batch, pk, error))
    _extend_lease(context, batch)
    return renewal


def load_renew_url(path: str) -> RenewUrl:
    """Import the function of the setting ``RENEW_URL``.

    Raises:
        ImproperlyConfigured: It cannot be imported, or it is not a function.
    """
    try:
        function: RenewUrl = import_string(path)
    except Exception as error:  # a module of the host may raise anything while it is imported
        raise ImproperlyConfigured(
            f"{SETTING}['RENEW_URL']: {path} cannot be imported: {describe_error(error)}."
        ) from error
    if not callable(function):
        raise ImproperlyConfigured(f"{SETTING}['RENEW_URL']: {path} is not a function.")
    return function


def _call(function: RenewUrl, line: str, attachment: dict[str, Any]) -> str:
    return function(attachment, json.loads(line))


def _read_lines(context: DeliveryContext, batch: OutboxBatch) -> dict[int, str]:
    members = OutboxRecord.rows.using(context.using).filter(batch=batch, closed_as__isnull=True)
    lines = dict(members.filter(attachments__gt=0).order_by("pk").values_list("pk", "payload"))
    raise_if_waiting(lines.values())
    return lines


def _extend_lease(context: DeliveryContext, batch: OutboxBatch) -> None:
    lease = context.settings.lease
    if batch.leased_until and batch.leased_until > context.clock.after(lease * (1 - LEASE_SHARE)):
        return
    until = context.clock.after(lease)
    if not context.run_with_retries(OutboxBatch.objects.using(context.using).renew_lease, batch, until):
        raise LeaseLost
    batch.leased_until = until


def _rejection(context: DeliveryContext, batch: OutboxBatch, pk: int, error: Exception) -> OutboxRejection:
    message = (
        f"The function of {SETTING}['RENEW_URL'] gave no URL for an attachment: "
        f"{describe_error(error).removesuffix('.')}. Nothing of the record was sent."
    )
    logger.warning(
        "record #%d is rejected: RENEW_URL raised %s",
        pk,
        type(error).__name__,
        extra=context.log_ids(batch=batch.pk, record=pk),
    )
    rejection = OutboxRejection.local(pk, NOT_RENEWED, message, context.clock.now())
    rejection.batch_id = batch.pk
    return rejection


def _write(context: DeliveryContext, sealed: SealedBatch, renewal: Renewal) -> SealedBatch | None:
    """Write the new lines, and the batch's new key and hash. If it cannot stay one batch, seal its records again.

    That is so if a record was rejected, or if the request became too large.
    """
    batch = copy(sealed.batch)  # after a rollback, the caller's batch is unchanged
    batches = OutboxBatch.objects.using(context.using)
    is_too_large = len(sealed.body) + renewal.growth > request_limits(context).bytes
    must_split = is_too_large or bool(renewal.rejections)
    with transaction.atomic(using=context.using):
        if must_split:
            lock_for_sealing(context)  # always the first lock
        batch.urls_renewed_at = context.clock.now()
        if not batches.renew(batch, urls_renewed_at=batch.urls_renewed_at):
            raise LeaseLost
        rows = OutboxRecord.rows.using(context.using)
        rows.lock_rows(sealed.members)
        open_sealed(context, batch)  # raises BodyChanged: an altered line must not get a new hash
        stored = stored_forms(rows, context.workspace_name, renewal.lines)
        rewritten = [_rewritten(context, batch, pk, line, stored[pk]) for pk, line in renewal.lines.items()]
        rows.filter(batch=batch).bulk_update(rewritten, COLUMNS, batch_size=LINES_PER_STATEMENT)
        rows.reject(renewal.rejections)
        if must_split:
            split_changed_batch(context, batch, _describe(renewal))
            return None
        body = read_members(context, batch).body
        batch.key, batch.sha256, batch.byte_count = new_key(), fingerprint(body), len(body)
        batches.renew(batch, key=batch.key, sha256=batch.sha256, byte_count=batch.byte_count)
    return replace(sealed, batch=batch, body=body)


def _rewritten(context: DeliveryContext, batch: OutboxBatch, pk: int, line: str, stored: str) -> OutboxRecord:
    encoded = line.encode()
    checksum = make_checksum(encoded, context.workspace_name, batch.type, batch.product_id)
    return OutboxRecord(pk=pk, payload=stored, size=len(encoded), checksum=checksum)


def _describe(renewal: Renewal) -> str:
    if renewal.rejections:
        return f"RENEW_URL gave no URL for {len(renewal.rejections)} of its records."
    return "With the new URLs of its attachments, the request was too large."
