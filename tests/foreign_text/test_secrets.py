"""Secrets: each form of a known secret, and what looks like a secret."""

from __future__ import annotations

import base64
import json
import re
import sys
import threading
from urllib.parse import quote

import pytest

from evermuse_outbox.conf import Secret
from evermuse_outbox.foreign_text import clean_text, hide_secret, secrets
from evermuse_outbox.foreign_text.secrets import mask_secrets
from tests.foreign_text.samples import SECRET


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        SECRET.upper(),
        quote(SECRET, safe=""),
        json.dumps(SECRET),
        repr(SECRET),
        base64.b64encode(SECRET.encode()).decode(),
    ],
)
def test_a_known_secret_is_masked_in_each_form(form):
    hide_secret(SECRET)
    text = clean_text(f"the key {form} is wrong")
    assert text.replace("em_sk_", "").replace("'", "").replace('"', "") == "the key … is wrong"


def test_a_secret_of_the_settings_is_known():
    Secret("a-key-of-another-form")
    assert clean_text("bad a-key-of-another-form") == "bad …"


def test_a_short_secret_is_not_masked():
    hide_secret("key")
    hide_secret("")
    hide_secret(None)
    assert clean_text("the key") == "the key"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("em_sk_abc.", "em_sk_…"),
        ("EM_SK_abc def", "EM_SK_… def"),
        ("em%5fsk%5Fabc def", "… def"),
        (r'"em\u005fsk\u005fabc\u005fdef"', '"…"'),
        ("redis://user:pass@word@host:1/0", "redis://…@host:1/0"),
        (r"amqp:\/\/user:word@host", r"amqp:\/\/…@host"),
        ("https://host/a@b", "https://host/a@b"),
        ('{"X-Api-Key": "abc"}', '{"X-Api-Key": "…"}'),
        ("Authorization: Bearer abc def", "Authorization: … def"),
        ("password=abc host=x", "password=… host=x"),
        ("the password is wrong", "the password is wrong"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text, masked):
    assert clean_text(text) == masked
    assert clean_text(masked) == masked


def test_threads_can_add_and_mask_at_the_same_time():
    def add(number):
        hide_secret(f"secret-of-thread-{number}")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=add, args=[number]) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert {clean_text(f"secret-of-thread-{number}") for number in range(20)} == {"…"}


class _CountedRe:
    """The module ``re``, which adds the lengths of the patterns that it gets."""

    IGNORECASE = re.IGNORECASE
    escape = staticmethod(re.escape)
    length = 0

    def compile(self, pattern: str, *args: object) -> object:
        self.length += len(pattern)
        return re.compile(pattern, *args)

    def sub(self, pattern: str, *args: object, **options: object) -> str:
        self.length += len(pattern)
        return re.sub(pattern, *args, **options)


def test_many_secrets_are_added_and_masked_without_a_pattern_of_all(monkeypatch):
    counted = _CountedRe()
    monkeypatch.setattr(secrets, "re", counted)
    for number in range(50):
        hide_secret(f"number-{number}-of-the-secrets")
        assert mask_secrets("a text without any") == "a text without any"
    assert counted.length == 0
    assert mask_secrets("number-7-of-the-secrets NUMBER-49-of-the-Secrets") == "… …"
    assert mask_secrets("x" * 1000 + "number-8-of-the-secrets") == "x" * 1000 + "…"
    assert counted.length < 500


def test_a_secret_that_contains_another_is_masked_completely():
    hide_secret("the-short-secret")
    hide_secret("before-the-short-secret-after")
    assert mask_secrets("(before-the-short-secret-after)") == "(…)"
    assert mask_secrets("(the-short-secret)") == "(…)"
