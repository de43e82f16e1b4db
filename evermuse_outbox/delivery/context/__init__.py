"""What every step of the delivery uses: context, clock, epoch store, retries, backoff and the attempt log.

This package must not decide anything about records, batches or groups, and it makes no HTTP request.
Its public interface is ``DeliveryContext`` with ``open_context`` and ``queue_keys``, ``Clock``, the retry functions,
the classification of database errors, ``statement_deadlines``, the backoff functions and ``Attempt``.
"""

from .attempt_log import Attempt
from .backoff import equal_jitter, full_jitter, poll_delay, typical_completion_time
from .clock import Clock
from .context import FINGERPRINT_HEAD, DeliveryContext, QueueKey, fingerprint_of, open_context, queue_keys
from .database_errors import DatabaseErrorKind, classify_database_error, summarise_error
from .deadlines import SlowStatement, statement_deadlines, take_slow_statements
from .epochs import BEGIN, CLOSED, EpochStore, EpochStoreUnavailable, epoch_name
from .retries import isolate_database_errors, log_database_error, retry_on_database_error, retry_until
from .throttles import DatabaseThrottle, open_redis, open_throttle, prepare_throttles

__all__ = [
    "BEGIN",
    "CLOSED",
    "FINGERPRINT_HEAD",
    "Attempt",
    "Clock",
    "DatabaseErrorKind",
    "DatabaseThrottle",
    "DeliveryContext",
    "EpochStore",
    "EpochStoreUnavailable",
    "QueueKey",
    "SlowStatement",
    "classify_database_error",
    "epoch_name",
    "equal_jitter",
    "fingerprint_of",
    "full_jitter",
    "isolate_database_errors",
    "log_database_error",
    "open_context",
    "open_redis",
    "open_throttle",
    "poll_delay",
    "prepare_throttles",
    "queue_keys",
    "retry_on_database_error",
    "retry_until",
    "statement_deadlines",
    "summarise_error",
    "take_slow_statements",
    "typical_completion_time",
]
