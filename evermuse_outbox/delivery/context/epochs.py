"""The epoch store: what was sealed last, kept outside of the database, so that a restored database is noticed.

Each workspace of a database has an *epoch*, a random id, and counts its sealed batches in it. Before a batch is sent,
its number and its idempotency key are recorded in the store. A database that was restored from a backup, or that is a
lagging replica, has a lower count than the store, or gives a number a second time. A store that knows less than the
database is harmless: it may have been flushed.

The store is in Redis if ``REDIS_URL`` is set, else in files if ``EPOCH_DIRECTORY`` is set. Otherwise it is the memory
of the process: it notices a database that is replaced while the process runs.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from ...conf import Settings
from ...ratelimit import ThrottleUnavailable

KEPT = 256
"""Numbers that are kept for each epoch: more than the senders that can seal at the same moment."""

CLOSED = 2**53
"""Number that is recorded when an epoch ends. A database that still has this epoch is then older for certain."""

BEGIN = "begin"
"""Key of the number with which a store without any entry begins. It may be given to a batch, too."""


class Recorded(NamedTuple):
    """What the store knows after a batch was recorded.

    Attributes:
        latest: highest number of the epoch.
        is_taken: whether another batch has the same number.
        is_new: whether the store did not know the epoch before.
    """

    latest: int
    is_taken: bool
    is_new: bool


class EpochStoreUnavailable(ThrottleUnavailable):
    """The epoch store does not answer. Nothing may be sent without it, as without the throttle."""


class EpochStore(Protocol):
    """A store outside of the database. Each method raises :class:`EpochStoreUnavailable` if it does not answer."""

    def latest(self, epoch: str) -> int | None:
        """Return the highest number of an epoch; None if the store does not know the epoch."""

    def record(self, epoch: str, number: int, key: str) -> Recorded:
        """Record that the batch with this idempotency key has this number."""


def epoch_name(epoch: UUID, workspace: str) -> str:
    """Return the name under which stores keep the epoch of a workspace."""
    return f"{epoch.hex}:{workspace}"


def open_epoch_store(settings: Settings, redis_client: Any) -> EpochStore:
    """Return the epoch store of the settings. ``redis_client`` is None without ``REDIS_URL``."""
    if redis_client is not None:
        return RedisEpochs(redis_client)
    if settings.epoch_directory:
        return DirectoryEpochs(Path(settings.epoch_directory))
    return _memory


class RedisEpochs:
    """An :class:`EpochStore` with a sorted set for each epoch: idempotency keys by number. It never expires."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def latest(self, epoch: str) -> int | None:
        """Return the highest number of an epoch; None if Redis does not know the epoch."""
        (newest,) = self._run([("zrange", (_redis_key(epoch), -1, -1), {"withscores": True})])
        return int(newest[0][1]) if newest else None

    def record(self, epoch: str, number: int, key: str) -> Recorded:
        """Record a batch in one round trip."""
        name = _redis_key(epoch)
        size, _, holders, newest, _ = self._run(
            [
                ("zcard", (name,), {}),
                ("zadd", (name, {key: number}), {}),
                ("zrangebyscore", (name, number, number), {}),
                ("zrange", (name, -1, -1), {"withscores": True}),
                ("zremrangebyrank", (name, 0, -KEPT - 1), {}),
            ]
        )
        others = {_as_text(holder) for holder in holders} - {key, BEGIN}
        return Recorded(int(newest[0][1]), bool(others) and key != BEGIN, size == 0)

    def _run(self, commands: list[tuple[str, tuple[Any, ...], dict[str, Any]]]) -> Any:
        import redis

        try:
            with self._client.pipeline(transaction=True) as pipeline:
                for name, arguments, options in commands:
                    getattr(pipeline, name)(*arguments, **options)
                return pipeline.execute()
        except redis.RedisError as error:
            message = f"Redis holds the epochs and does not answer: {type(error).__name__}"
            raise EpochStoreUnavailable(message) from error


class MemoryEpochs:
    """An :class:`EpochStore` in the memory of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._epochs: dict[str, dict[str, int]] = {}

    def latest(self, epoch: str) -> int | None:
        """Return the highest number of an epoch; None if this process has not recorded any."""
        with self._lock:
            return max(self._epochs.get(epoch, {}).values(), default=None)

    def record(self, epoch: str, number: int, key: str) -> Recorded:
        """Record a batch."""
        with self._lock:
            return _record(self._epochs.setdefault(epoch, {}), number, key)


class DirectoryEpochs:
    """An :class:`EpochStore` with one small file for each epoch, which survives the process and the database.

    Args:
        directory: an existing directory that is not restored together with the database.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def latest(self, epoch: str) -> int | None:
        """Return the highest number of an epoch; None if there is no file of it."""
        with self._locked(epoch) as file:
            return max(self._read(file).values(), default=None)

    def record(self, epoch: str, number: int, key: str) -> Recorded:
        """Record a batch: replace the file by a new version, so that a crash leaves a complete one."""
        with self._locked(epoch) as file:
            keys = self._read(file)
            recorded = _record(keys, number, key)
            written = file.with_suffix(".new")
            written.write_text(json.dumps(keys), encoding="utf-8")
            written.replace(file)
            return recorded

    @contextmanager
    def _locked(self, epoch: str) -> Iterator[Path]:
        """Lock the epoch for all processes of this host, and yield the path of its file."""
        import fcntl  # not on Windows, where this store cannot be used

        file = self._directory / f"{epoch.replace(':', '-').encode().hex()}.json"
        try:
            with file.with_suffix(".lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield file
        except OSError as error:
            message = f"EPOCH_DIRECTORY cannot be used: {type(error).__name__}: {error.strerror}"
            raise EpochStoreUnavailable(message) from error

    def _read(self, file: Path) -> dict[str, int]:
        """Return the numbers by key. A missing or unreadable file counts as empty, like a flushed Redis."""
        try:
            keys = json.loads(file.read_text(encoding="utf-8"))
            return {str(key): int(number) for key, number in keys.items()}
        except (FileNotFoundError, ValueError, AttributeError, TypeError):
            return {}


def _record(keys: dict[str, int], number: int, key: str) -> Recorded:
    """Add a number to those of an epoch, and drop the lowest ones beyond ``KEPT``."""
    is_new = not keys
    others = {other for other, taken in keys.items() if taken == number} - {key, BEGIN}
    keys[key] = number
    for dropped in sorted(keys, key=lambda other: keys[other])[:-KEPT]:
        del keys[dropped]
    return Recorded(max(keys.values()), bool(others) and key != BEGIN, is_new)


def _redis_key(epoch: str) -> str:
    return f"evermuse_outbox:epoch:{epoch}"


def _as_text(answer: bytes | str) -> str:
    return answer.decode() if isinstance(answer, bytes) else answer


_memory = MemoryEpochs()
