"""The readers of JSON: text that a database can store, counts, ids and record errors."""

from __future__ import annotations

import pytest

from evermuse_outbox.evermuse.api import RecordError
from evermuse_outbox.evermuse.api.answers import (
    is_batch_id,
    is_count,
    parse_object,
    parse_record_errors,
    parse_text,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("abc", "abc"),
        ("abcdefgh", "abcde"),
        ("a\0b", "a\ufffdb"),
        ("a\ud800b", "a\ufffdb"),
        (b"abc", ""),
        (None, ""),
    ],
)
def test_text_is_cut_and_can_be_stored(value, text):
    assert parse_text(value, 5) == text


@pytest.mark.parametrize("value", [-1, 2**31, True, 1.0, "1", None])
def test_a_count_is_a_whole_number_that_fits_a_column(value):
    assert not is_count(value)
    assert is_count(0)
    assert is_count(2**31 - 1)


@pytest.mark.parametrize("value", ["", "x" * 129, "a\0b", "a\ud800", 7, None])
def test_a_batch_id_is_text_that_can_be_stored_unchanged(value):
    assert not is_batch_id(value)
    assert is_batch_id("x" * 128)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"7", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_gives_none(body):
    assert parse_object(body) is None


def test_an_error_at_an_index_that_was_not_sent_is_left_out():
    errors = [{"index": index, "code": "C", "message": "m"} for index in (0, 3, 2)]
    assert [error.index for error in parse_record_errors({"errors": errors}, 3)] == [0, 2]
    assert [error.index for error in parse_record_errors({"errors": errors})] == [0, 3, 2]


def test_an_error_without_words_gets_default_ones():
    assert parse_record_errors({"errors": [{"index": 0}]}) == (
        RecordError(0, "REJECTED", "Evermuse gave no message."),
    )


def test_a_list_of_errors_is_read_up_to_the_size_of_a_batch():
    assert len(parse_record_errors({"errors": [{"index": 0}] * 5_000})) == 1_000
