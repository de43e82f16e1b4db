"""Keys from a file or a function: read again, checked, hidden, and never in an error."""

from __future__ import annotations

import logging
import os
import threading

import pytest

from evermuse_outbox.conf.keys import CALL_INTERVAL, RETRY_INTERVAL, KeyFile, KeyFunction, KeyUnavailable
from evermuse_outbox.foreign_text.secrets import mask_secrets
from tests.conf.errors import KEY, errors_in
from tests.foreign_text.test_frames import frames_of


class Time:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self):
        return self.now


class Vault:
    """A function that returns ``key``, or raises it if it is an exception, and counts its calls."""

    def __init__(self, key):
        self.key = key
        self.calls = 0

    def __call__(self):
        self.calls += 1
        if isinstance(self.key, Exception):
            raise self.key
        return self.key


def test_a_file_is_read_again_and_white_space_at_its_ends_is_ignored(tmp_path):
    path = tmp_path / "key"
    path.write_text("em_sk_first_key\r\n\n")
    source = KeyFile(str(path))
    assert source.read().reveal() == "em_sk_first_key"
    path.write_text("  em_sk_second_key")
    assert source.read().reveal() == "em_sk_second_key"


def test_the_former_and_the_present_key_are_hidden(tmp_path):
    path = tmp_path / "key"
    source = KeyFile(str(path))
    for key in ("former-secret-key-1", "present-secret-key-2"):
        path.write_text(key)
        source.read()
    assert mask_secrets("former-secret-key-1 present-secret-key-2") == "… …"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"em_sk_a\nem_sk_b", "has several lines. Keep only the line of the key"),
        (b"em_sk_a\0", "characters that an HTTP header cannot contain"),
        (b"em_sk_a\xff", "characters that an HTTP header cannot contain"),
        (b"\xef\xbb\xbfem_sk_a", "byte order mark. Save the file as UTF-8 without one"),
        ("em_sk_a".encode("utf-16"), "byte order mark. Save the file as UTF-8 without one"),
        (b"em_sk_" + b"x" * 5_000, "too large for a key"),
    ],
)
def test_a_file_without_a_key(tmp_path, content, reason):
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(KeyUnavailable) as caught:
        KeyFile(str(path)).read()
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)
    assert "em_sk_a" not in str(caught.value)
    assert not [
        shown for shown in frames_of(caught.value) if "em_sk_a" in shown[2] and __file__ not in shown[0]
    ]


def test_a_path_that_cannot_be_read(tmp_path):
    with pytest.raises(KeyUnavailable, match=r"API_KEY_FILE .*missing.* cannot be read: No such file"):
        KeyFile(str(tmp_path / "missing")).read()
    with pytest.raises(KeyUnavailable, match="Is a directory"):
        KeyFile(str(tmp_path)).read()
    with pytest.raises(KeyUnavailable, match="cannot be read: no file can have this path"):
        KeyFile(f"{tmp_path}/a\0b").read()
    with pytest.raises(KeyUnavailable, match="no file can have this path"):
        KeyFile("/\ud800").read()


def test_only_a_regular_file_is_read_and_a_pipe_without_a_writer_does_not_block(tmp_path):
    pipe, file, link = tmp_path / "pipe", tmp_path / "file", tmp_path / "link"
    os.mkfifo(pipe)
    source = KeyFile(str(pipe))
    errors = []

    def read():
        try:
            source.read()
        except KeyUnavailable as error:
            errors.append(str(error))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(10)
    assert [error for error in errors if "Not a regular file" in error]
    with pytest.raises(KeyUnavailable, match="Not a regular file"):
        KeyFile("/dev/null").read()
    file.write_text(KEY)
    link.symlink_to(file)
    assert KeyFile(str(link)).read().reveal() == KEY


def test_a_function_is_called_again_after_a_minute():
    time, vault = Time(), Vault("em_sk_first_key")
    source = KeyFunction(vault, time)
    assert [source.read().reveal() for _ in range(3)] == ["em_sk_first_key"] * 3
    assert vault.calls == 1
    vault.key, time.now = "em_sk_second_key", CALL_INTERVAL
    assert source.read().reveal() == "em_sk_second_key"


def test_a_function_is_called_at_once_after_its_key_was_refused():
    vault = Vault("em_sk_first_key")
    source = KeyFunction(vault, Time())
    refused = source.read()
    vault.key = "em_sk_second_key"
    source.forget(refused)
    assert source.read().reveal() == "em_sk_second_key"
    source.forget(refused)  # another thread was refused with the first key, too
    source.read()
    assert vault.calls == 2


def test_the_last_key_remains_in_use_while_the_function_fails(caplog):
    time, vault = Time(), Vault("em_sk_first_key")
    source = KeyFunction(vault, time)
    source.read()
    vault.key, time.now = OSError("vault with em_sk_first_key is sealed"), CALL_INTERVAL
    with caplog.at_level(logging.WARNING, "evermuse_outbox"):
        assert source.read().reveal() == "em_sk_first_key"
    assert "its last key remains in use" in caplog.text
    assert "first_key" not in caplog.text
    assert source.read()
    assert vault.calls == 2
    vault.key, time.now = "em_sk_second_key", CALL_INTERVAL + RETRY_INTERVAL
    assert source.read().reveal() == "em_sk_second_key"


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (None, "it is empty"),
        (5, "not int"),
        (KEY.encode(), "not bytes"),
        ({"key": KEY}, "not dict"),
        (f"{KEY}\n", "Look for a space or a line break"),
        (KeyError("secret"), "failed: KeyError"),
        (ValueError(f"the vault returned {KEY[6:]}"), "failed: ValueError. Call it in manage.py shell"),
        (PermissionError(13, f"no lease for {KEY[6:]}"), r"failed: PermissionError (13)."),
    ],
)
def test_a_function_without_a_key(result, reason):
    time, vault = Time(), Vault(result)
    source = KeyFunction(vault, time)
    for _ in range(2):
        with pytest.raises(KeyUnavailable) as caught:
            source.read()
        assert reason in str(caught.value)
        assert KEY[6:] not in str(caught.value)
        shown = [text for path, _, text in frames_of(caught.value) if path.endswith("conf/readers/values.py")]
        shown += [text for path, name, text in frames_of(caught.value) if name in ("value", "content")]
        assert not any(KEY in text for text in shown)
    assert vault.calls == 1
    vault.key, time.now = KEY, RETRY_INTERVAL
    assert source.read().reveal() == KEY


def test_only_one_place_for_a_key():
    (problem,) = errors_in(API_KEY=KEY, API_KEY_FILE="/run/secrets/key")
    assert problem == "EVERMUSE_OUTBOX['API_KEY_FILE']: API_KEY is set, too. Remove one of the two settings."
    (problem,) = errors_in(WORKSPACES={"eu": {"API_KEY": KEY, "API_KEY_FILE": "/run/secrets/key"}})
    assert problem.startswith("EVERMUSE_OUTBOX['WORKSPACES']['eu']['API_KEY_FILE']")
    assert errors_in(API_KEY="", API_KEY_FILE="/run/secrets/key") == []


@pytest.mark.parametrize("value", ["run/secrets/key", 5, ["/a"], f"file:{KEY}"])
def test_a_path_must_be_absolute(value):
    (problem,) = errors_in(API_KEY_FILE=value)
    assert "is not an absolute path. Use for instance" in problem
    assert KEY not in problem


def test_a_path_in_place_of_a_key():
    (problem,) = errors_in(API_KEY="/run/secrets/key")
    assert problem.endswith("the value is the path of a file, not a key. Use API_KEY_FILE for a path.")


def test_a_workspace_inherits_no_place_of_a_key(typed, tmp_path):
    path = tmp_path / "key"
    path.write_text(KEY)
    settings = typed(API_KEY_FILE=str(path), WORKSPACES={"eu": {}})
    assert settings.workspace("default").has_key
    assert not settings.workspace("eu").has_key
    assert settings.workspace("eu").with_key().problem == "no API_KEY is set for the workspace 'eu'"
    assert KEY not in repr(settings.workspace("default").with_key())
