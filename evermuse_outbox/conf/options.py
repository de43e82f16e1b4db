"""Every setting: how its value is read, its default, and its description."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..evermuse import FORMATS, limits
from ..evermuse.records import CONTRACTS, NATURES
from .readers import (
    DEFAULT_DAYS,
    Choice,
    Number,
    read_aliases,
    read_directory,
    read_fair_shares,
    read_fixes,
    read_flag,
    read_format_hints,
    read_function,
    read_key,
    read_keys,
    read_label,
    read_master_keys,
    read_newest_first,
    read_path,
    read_payload_retention,
    read_proxy,
    read_queue,
    read_redis_url,
    read_retention,
    read_seconds,
    read_url,
)
from .targets import PRODUCTION_URL

SETTING = "EVERMUSE_OUTBOX"
"""Name of the dict in the settings of the project."""


@dataclass(frozen=True, slots=True)
class Option:
    """One key of the dict: how it is read, its default, and its description in the documentation."""

    read: Callable[[Any], Any]
    default: Any
    description: str

    @property
    def allowed(self) -> str:
        """Return the allowed values in words; empty if the description names them."""
        return getattr(self.read, "allowed", "")


WORKSPACE_OPTIONS = {
    "API_URL": Option(
        read_url,
        PRODUCTION_URL,
        "Base URL of the API: https, or http on a loopback address or with the key of the sandbox. With "
        "`DEBUG = True`, nothing is sent unless it is set; "
        "see [API keys](../how-to/api-keys.md#no-test-data-in-production).",
    ),
    "API_KEY": Option(
        read_key,
        None,
        "The API key, `em_sk_…`, with `api:write` to send and `api:read` to poll. Read it from the environment. Or a "
        "function without arguments that returns it; see [API keys](../how-to/api-keys.md#where-a-key-comes-from).",
    ),
    "API_KEY_FILE": Option(
        read_path,
        None,
        "Absolute path of a file that contains the API key, in place of `API_KEY`. A new key in it takes effect "
        "without a restart; see [API keys](../how-to/api-keys.md#where-a-key-comes-from).",
    ),
    "API_KEYS": Option(
        read_keys,
        (),
        "Further API keys of the same workspace of Evermuse, up to ten in total: a list of keys, functions, and "
        "`pathlib.Path` objects of files. The rate limit counts for each key; see "
        "[API keys](../how-to/api-keys.md#several-keys).",
    ),
    "PROXY": Option(
        read_proxy,
        None,
        "URL of an HTTP proxy, `http://user:password@proxy.example:3128`. None: the environment variables decide. "
        "Empty or `False`: no proxy. See [behind a proxy](../how-to/proxy.md).",
    ),
    "CONTRACT": Option(
        Choice(CONTRACTS), "reference", "The published contract that Evermuse applies to this API key."
    ),
    "RATE_LIMIT": Option(
        Number(0.01, 100_000, "requests a second"),
        limits.RATE_LIMIT,
        "Requests in any sliding second for each API key, reads included.",
    ),
    "FAIR_SHARES": Option(
        read_fair_shares,
        None,
        'The values of a label share the requests of a group: `{"label": "customer", "weights": {"acme": 3}}`. A value '
        "without a weight has 1. None: the oldest records go first; see [fair shares](../how-to/fair-shares.md).",
    ),
    "NEWEST_FIRST": Option(
        read_newest_first,
        None,
        "Send the newest records of a group first while its oldest is older than `after`: "
        '`{"after": timedelta(minutes=10), "backlog_share": 0.2}`. The share of each request goes to the oldest. '
        "None: the oldest records go first; see [newest first](../how-to/fair-shares.md#newest-first-after-an-outage).",
    ),
    "PRESSURE_THRESHOLD": Option(
        read_seconds,
        None,
        "Probable wait of a new record from which workers send the signal `pressure_changed`. They send it again below "
        "half of it. None: no signal; see [pressure](../how-to/pressure.md).",
    ),
    "REJECT_ABOVE": Option(
        read_seconds,
        None,
        "Probable wait of a new record from which `enqueue` raises `OutboxFull` and inserts nothing. None: it never "
        "does; see [pressure](../how-to/pressure.md#refuse-records).",
    ),
}
OPTIONS = WORKSPACE_OPTIONS | {
    "DATABASES": Option(
        read_aliases,
        ("default",),
        "Database aliases in which workers look for records. Enqueueing in another database fails.",
    ),
    "REDIS_URL": Option(
        read_redis_url,
        None,
        "Redis that stores the rate limit of each API key for all hosts. Without it, a database row stores it.",
    ),
    "EPOCH_DIRECTORY": Option(
        read_directory,
        None,
        "Absolute path of a directory that is not restored together with the database. Without `REDIS_URL`, it stores "
        "what was sealed last, so that a restored database is noticed.",
    ),
    "LISTING_IS_EXCLUSIVE": Option(
        read_flag,
        True,
        "Whether only this outbox sends with its API keys. If so, a listed batch that no database knows shows that a "
        "database was restored. Use `False` if another client sends to the same Evermuse workspace.",
    ),
    "MAX_BATCH_RECORDS": Option(
        Number(1, limits.MAX_BATCH_RECORDS, "records", is_integer=True),
        limits.MAX_BATCH_RECORDS,
        "Maximum number of records in one request.",
    ),
    "MAX_BATCH_BYTES": Option(
        Number(1_000, limits.MAX_BODY_BYTES, "bytes", is_integer=True),
        limits.MAX_BODY_BYTES,
        "Maximum size of the body of one request.",
    ),
    "MAX_BATCH_ATTACHMENTS": Option(
        Number(1, limits.MAX_BATCH_ATTACHMENTS, "attachments", is_integer=True),
        limits.MAX_BATCH_ATTACHMENTS,
        "Maximum number of attachments in one request.",
    ),
    "BODY_FORMAT": Option(
        Choice(tuple(FORMATS)), "ndjson", 'Form of the request body. `"wrapper"` sends `{"records": […]}`.'
    ),
    "FORMAT_HINTS": Option(
        read_format_hints,
        {},
        "Dict from `_type` to the `format` hint of its requests: `text`, `audio`, `video` or `file`.",
    ),
    "FIXES": Option(
        read_fixes,
        {},
        "Dict from a name to the dotted path of a function `fix(envelope: dict) -> dict | None`. `outbox_fix` and the "
        "admin change rejected records with it; see [repair many records](../how-to/repair.md).",
    ),
    "RENEW_URL": Option(
        read_function,
        None,
        "Dotted path of a function `renew_url(attachment: dict, record: dict) -> str`. It returns a new `vendor_url` "
        "for each attachment before a batch is sent; see [expiring URLs](../how-to/expiring-urls.md).",
    ),
    "RENEWED_URL_TTL": Option(
        Number(1, 604_800, "seconds"),
        300.0,
        "Time for which a batch may wait with the URLs of `RENEW_URL`. Then they are renewed again, unless Evermuse "
        "may have the batch.",
    ),
    "DEFAULT_NATURE": Option(
        Choice(NATURES),
        "evidence",
        'The `_nature` of records without one that wait while you change `CONTRACT` to `"openapi"`.',
    ),
    "LINGER": Option(
        Number(0, 3_600, "seconds"),
        0.2,
        "After a request that was not full, the next one of its group follows this much later, unless it is full. So a "
        "stream of records uses few requests. A lone record does not wait.",
    ),
    "MAX_WAIT": Option(
        Number(1, 86_400, "seconds"),
        30.0,
        "Groups that fill a request go first. A smaller group waits at most this long, if the rate limit allows it.",
    ),
    "MAX_LAG": Option(
        Number(1, 31_536_000, "seconds"),
        300.0,
        "Age of the oldest pending record from which a backlog is an incident and `outbox_status --check` fails.",
    ),
    "TIMEOUT": Option(
        Number(0.1, 600, "seconds"),
        30.0,
        "Deadline of one HTTP request, from its start to the last byte of the answer.",
    ),
    "LEASE": Option(
        Number(1, 86_400, "seconds"),
        120.0,
        "Time for which a worker reserves a batch. After it, another worker takes the batch over. "
        "At least 2 × `TIMEOUT` + 5. A quarter of it is the deadline of each statement of a worker.",
    ),
    "BACKOFF_BASE": Option(
        Number(0.001, 3_600, "seconds"),
        1.0,
        "Maximum pause after the first failure. It doubles with each further failure. The pause is random, "
        "between 0 and the maximum.",
    ),
    "BACKOFF_CAP": Option(
        Number(0.001, 86_400, "seconds"), 300.0, "Maximum pause after any number of failures."
    ),
    "MAX_RESENDS": Option(
        Number(0, 100, "resends", is_integer=True),
        5,
        "How often records are sent again, under a new idempotency key, after Evermuse reports FAILED. "
        "Then they are rejected.",
    ),
    "IDEMPOTENCY_KEY_TTL": Option(
        Number(0, 31_536_000, "seconds"),
        86_400.0,
        "Time for which Evermuse is certain to remember an idempotency key. Evermuse publishes no figure. A batch "
        "without a clear answer for longer is searched for in the listing before it is sent again.",
    ),
    "POLL_INTERVAL": Option(
        Number(0.05, 3_600, "seconds"),
        1.0,
        "Time until an accepted batch is polled for the first time. Later polls are less frequent.",
    ),
    "RETENTION_DAYS": Option(
        read_retention,
        DEFAULT_DAYS,
        "Days for which delivered, superseded, discarded and expired records are kept: a number from 1/24 to 36500. "
        "Rejected records are then kept until they are retried or discarded. Or a dict with a number for each state: "
        '`{"delivered": 14, "superseded": 14, "discarded": 14, "expired": 14, "rejected": None}` is the default; None '
        "means for ever, and a missing state has its default.",
    ),
    "PAYLOAD_RETENTION_DAYS": Option(
        read_payload_retention,
        None,
        "Days after which the payload of a delivered record is dropped: a number from 0 to 36500. Its identity, its "
        "size and the hash of the payload are kept with the record. None: the payload is kept as long as the record.",
    ),
    "ENCRYPTION_KEYS": Option(
        read_master_keys,
        None,
        "List of master keys with which stored payloads are encrypted, each 32 bytes in base64. The first one "
        "encrypts, and all of them decrypt. Or a function without arguments that returns the list. None: payloads are "
        "stored as plain text; see [encryption at rest](../how-to/encryption.md).",
    ),
    "ENCRYPTION_KEYS_FILE": Option(
        read_path,
        None,
        "Absolute path of a file with the master keys, one in each line, in place of `ENCRYPTION_KEYS`.",
    ),
    "ENCRYPTION_LABEL": Option(
        read_label,
        None,
        "Name of a label. Each of its values in a workspace then has data keys of its own, so that they can be "
        "destroyed for one value. None: the data keys are for all records of a workspace.",
    ),
    "SEARCH_INDEX": Option(
        read_flag,
        True,
        "Fill the search index: workers store hashes of the vendor ids, the thread id and the participants of each "
        "record, so that the admin finds them among all records.",
    ),
    "METRICS_LABEL": Option(
        read_label,
        None,
        "Name of a label. Metrics then give the pending and the rejected records of its values; see "
        "[label records](../how-to/labels.md#metrics-of-a-label). None: no metric has a label of records.",
    ),
    "SENDERS": Option(
        Number(1, 1_000, "threads", is_integer=True),
        16,
        "Maximum number of threads with which one relay sends. If an answer takes L seconds, a little more than "
        "`RATE_LIMIT` × L are needed.",
    ),
    "HIDE_VALUES": Option(
        read_flag,
        False,
        "Show only the type of a wrong value in `InvalidRecord`, in the file of bad lines and in the admin, so that no "
        "personal data reach logs and error trackers. Paths, which contain keys of `data`, are still shown.",
    ),
    "WAKE_ON_COMMIT": Option(
        read_flag, True, "Wake the Celery workers on commit. Use `False` if only `outbox_relay` runs."
    ),
    "CELERY_QUEUE": Option(
        read_queue,
        None,
        "Celery queue of the wake-up messages. Give the same name to `beat_schedule(queue=…)`.",
    ),
}


def raw_settings() -> Any:
    """Return the dict from the settings of the project, not checked; an empty dict if it is missing."""
    from django.conf import settings

    return getattr(settings, SETTING, {})
