"""The epoch stores: each keeps the same facts, and none blocks sending because it was emptied."""

from __future__ import annotations

import uuid

import pytest

from evermuse_outbox.delivery.context.epochs import (
    BEGIN,
    CLOSED,
    KEPT,
    DirectoryEpochs,
    EpochStoreUnavailable,
    MemoryEpochs,
    RedisEpochs,
    epoch_name,
    open_epoch_store,
)
from tests.services import HOW_TO_START, REDIS_URL


@pytest.fixture
def epoch():
    return epoch_name(uuid.uuid4(), "north & south: ü")


@pytest.fixture(params=["memory", "directory", "redis"])
def store(request, tmp_path, epoch):
    if request.param == "memory":
        yield MemoryEpochs()
    elif request.param == "directory":
        yield DirectoryEpochs(tmp_path)
    elif REDIS_URL is None:
        pytest.skip(f"no redis: {HOW_TO_START['redis']}")
    else:
        import redis

        client = redis.Redis.from_url(REDIS_URL)
        yield RedisEpochs(client)
        client.delete(f"evermuse_outbox:epoch:{epoch}")


def test_a_store_knows_the_highest_number(store, epoch):
    assert store.latest(epoch) is None
    assert store.record(epoch, 7, "a") == (7, False, True)
    assert store.record(epoch, 9, "c") == (9, False, False)
    assert store.record(epoch, 8, "b") == (9, False, False)  # two senders may record in the other order
    assert store.latest(epoch) == 9
    assert store.latest(epoch + "x") is None


def test_a_number_is_given_once_and_may_be_recorded_again(store, epoch):
    store.record(epoch, 7, "a")
    assert store.record(epoch, 7, "a") == (7, False, False)
    assert store.record(epoch, 7, "b") == (7, True, False)


def test_the_number_with_which_a_store_begins_may_be_given_to_a_batch(store, epoch):
    store.record(epoch, 7, BEGIN)
    assert store.record(epoch, 7, "a") == (7, False, False)
    assert store.record(epoch, 7, BEGIN) == (7, False, False)
    assert store.record(epoch, 7, "b").is_taken


def test_a_closed_epoch_is_above_every_count(store, epoch):
    store.record(epoch, 7, "a")
    store.record(epoch, CLOSED, "closed")
    assert store.latest(epoch) == CLOSED
    assert store.record(epoch, 8, "b").latest == CLOSED


def test_a_store_keeps_a_bounded_number_of_keys(store, epoch):
    for number in range(KEPT + 10):
        store.record(epoch, number, f"key-{number}")
    assert not store.record(epoch, 5, "other").is_taken  # forgotten
    assert store.record(epoch, KEPT, "other").is_taken


def test_a_damaged_file_counts_as_empty(tmp_path, epoch):
    store = DirectoryEpochs(tmp_path)
    store.record(epoch, 7, "a")
    (file,) = tmp_path.glob("*.json")
    for damage in ("", "[]", '{"a": null}', "{"):
        file.write_text(damage)
        assert store.latest(epoch) is None
    assert store.record(epoch, 8, "b").is_new


def test_a_directory_that_is_missing_is_unavailable(tmp_path, epoch):
    with pytest.raises(EpochStoreUnavailable, match="EPOCH_DIRECTORY"):
        DirectoryEpochs(tmp_path / "missing").record(epoch, 7, "a")


def test_a_redis_that_does_not_answer_is_unavailable(epoch):
    import redis

    store = RedisEpochs(redis.Redis(host="127.0.0.1", port=1))
    with pytest.raises(EpochStoreUnavailable, match="Redis"):
        store.latest(epoch)


def test_the_settings_choose_the_store(outbox_settings, tmp_path):
    from evermuse_outbox.conf import get_settings

    assert isinstance(open_epoch_store(get_settings(), None), MemoryEpochs)
    outbox_settings(EPOCH_DIRECTORY=str(tmp_path))
    assert isinstance(open_epoch_store(get_settings(), None), DirectoryEpochs)
    assert isinstance(open_epoch_store(get_settings(), object()), RedisEpochs)
