"""The gate for texts: it never raises, it is idempotent, and what leaves it is safe everywhere."""

from __future__ import annotations

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from evermuse_outbox.foreign_text import clean_text, headline, hide_secret, is_clean
from tests.foreign_text.samples import KEY, SECRET, TEXTS, is_printable_line


@pytest.fixture(autouse=True, scope="module")
def _secret():
    hide_secret(SECRET)


@given(TEXTS | st.binary(max_size=60), st.none() | st.integers(0, 60), st.booleans())
@example("a\r\nb\n\x85c", None, True)
def test_the_gate_is_idempotent_and_its_text_is_safe(value, limit, keep_lines):
    text = clean_text(value, limit, keep_lines=keep_lines)
    assert clean_text(text, limit, keep_lines=keep_lines) == text
    assert limit is None or len(text) <= limit
    assert is_printable_line(text.replace("\n", "") if keep_lines else text)
    text.encode("utf-8")
    assert SECRET not in text
    assert KEY[6:] not in text


@given(TEXTS, TEXTS, st.sampled_from([SECRET, KEY, SECRET.upper()]), st.integers(0, 200))
def test_no_part_of_a_secret_is_left_at_any_cut(before, after, secret, limit):
    assume(not any(part in (before + after).lower() for part in (secret[:8].lower(), secret[-8:].lower())))
    text = clean_text(f"{before}|{secret}|{after}", limit)
    assert secret[:8].lower() not in text.lower().replace("em_sk_", "")
    assert secret[-8:].lower() not in text.lower()


@pytest.mark.parametrize("secret", [SECRET, KEY])
def test_no_part_of_a_secret_is_left_at_each_cut(secret):
    hidden = secret.removeprefix("em_sk_")
    text = f"No: {secret}."
    for limit in range(len(text) + 1):
        left = clean_text(text, limit)
        assert len(left) <= limit
        assert not any(hidden[start : start + 3] in left for start in range(len(hidden) - 2)), left


@pytest.mark.parametrize("as_bytes", [False, True])
@pytest.mark.parametrize("length", [9, 100, 500, 900, 2_100])
def test_no_part_of_a_secret_is_left_where_reading_stops(length, as_bytes):
    part = f"<{length}>"  # no secret of another run is a part of this one
    secret = part * (length // len(part))
    hide_secret(secret)
    for shift in range(0, length, max(1, length // 40)):
        text = "\u20ac" * shift + f"{secret} " * (8_000 // length + 9)
        assert part not in clean_text(text.encode() if as_bytes else text, 500)


def test_the_cost_does_not_grow_with_the_text():
    class Counted(str):
        __slots__ = ()

    assert len(clean_text(Counted("em_sk_a " * 1_000_000), 100)) == 100


class Hostile:
    def __str__(self):
        raise RuntimeError

    __class__ = property(__str__)


class HostileText(str):
    __slots__ = ()

    def __str__(self):
        raise RuntimeError

    def __getitem__(self, index):
        raise RuntimeError

    def lower(self):
        raise RuntimeError


class HostileBytes(bytes):
    def __getitem__(self, index):
        raise RuntimeError


def test_the_gate_never_raises():
    for value in (Hostile(), HostileText("abc"), HostileBytes(b"abc"), 10**5_000, None, 1, Hostile):
        for limit in (None, 10):
            assert type(clean_text(value, limit)) is str
    assert clean_text(HostileText("abc")) == "abc"


def test_an_id_is_used_exactly_or_not_at_all():
    assert is_clean("batch_01-ü")
    for text in ("a\0", "a\n", "\ud800", KEY, "\u202e"):
        assert not is_clean(text)


def test_the_headline_is_the_part_that_this_package_wrote():
    assert headline("HTTP 400: the subject 'payload' is wrong: payload") == "HTTP 400"
    assert headline("no API_KEY is set") == "no API_KEY is set"
